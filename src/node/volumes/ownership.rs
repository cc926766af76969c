//! `fsGroup`: the files of a volume belong to a group that all containers of the pod are in.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
/// Of directories: search, and new files get the group too.
const DIRECTORY: u32 = 0o2110;
/// Never out of the volume, whatever its containers do meanwhile.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// What containers do with the volume's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadWrite,
    ReadOnly,
}

/// When an existing volume's files are changed (`fsGroupChangePolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangePolicy {
    Always,
    OnRootMismatch,
}

/// Gives everything in the volume to the group.
pub(crate) fn give_to_group(
    volume: &Path,
    group: u32,
    access: Access,
    policy: ChangePolicy,
) -> Result<()> {
    let failed = || Error::io("give to the group", volume);
    let root = fs::open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed())?;
    let stat = fs::fstat(&root).map_err(failed())?;
    if policy == ChangePolicy::OnRootMismatch && already_fits(&stat, group, access) {
        return Ok(());
    }
    // A stack of paths instead of recursion: a volume may be deeper than a thread's stack. The root comes last, so that an
    // interrupted change is seen as a mismatch.
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        for name in entries(&root, &directory).map_err(failed())? {
            let path = directory.join(&name);
            match open(&root, &path) {
                Ok(entry) => {
                    if change(&entry, group, access).map_err(failed())? == FileType::Directory {
                        pending.push(path);
                    }
                }
                // Removed or exchanged meanwhile.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(failed()(errno)),
            }
        }
    }
    change(&root, group, access).map_err(failed())?;
    Ok(())
}

fn already_fits(stat: &fs::Stat, group: u32, access: Access) -> bool {
    let wanted = mask(access) | DIRECTORY;
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        && stat.st_gid == group
        && stat.st_mode & wanted == wanted
}

fn mask(access: Access) -> u32 {
    match access {
        Access::ReadWrite => READ_WRITE,
        Access::ReadOnly => READ_ONLY,
    }
}

fn open(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    fs::openat2(root, path, flags, Mode::empty(), BENEATH)
}

fn entries(root: &OwnedFd, directory: &Path) -> rustix::io::Result<Vec<OsString>> {
    let path = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let opened = match fs::openat2(
        root,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        BENEATH,
    ) {
        Ok(opened) => opened,
        // A volume may be a single file, and a directory may be exchanged meanwhile.
        Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(&opened)? {
        let name = std::ffi::OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Works on the opened object, so what its name becomes does not matter.
fn change(entry: &OwnedFd, group: u32, access: Access) -> rustix::io::Result<FileType> {
    let stat = fs::fstat(entry)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    fs::chownat(
        entry.as_fd(),
        "",
        None,
        Some(Gid::from_raw(group)),
        AtFlags::EMPTY_PATH,
    )?;
    if kind == FileType::Symlink {
        return Ok(kind);
    }
    let more = mask(access)
        | if kind == FileType::Directory {
            DIRECTORY
        } else {
            0
        };
    // A change of the owner cleared these bits, and the mode from before is meant.
    let wanted = Mode::from_raw_mode((stat.st_mode & 0o7777) | more);
    let path = format!("/proc/self/fd/{}", entry.as_raw_fd());
    fs::chmodat(fs::CWD, path, wanted, AtFlags::empty())?;
    Ok(kind)
}

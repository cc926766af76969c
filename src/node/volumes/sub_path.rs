//! `subPath`: a part of a volume, held by a bind mount from an open descriptor, so that no exchange of names in the volume leads elsewhere.

use std::fs as std_fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use linux::mounts;
use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Links inside the volume may lead inside the volume; anything else is an error.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
/// How often the kernel may ask to be called again because something was renamed meanwhile.
const ATTEMPTS_MAX: u32 = 100;

/// Binds `sub_path` of `volume` to `target`, making it as a directory if nothing is there. Idempotent; binds anew when the volume's
/// content was exchanged.
pub(crate) fn bind(volume: &Path, sub_path: &Path, target: &Path) -> Result<()> {
    let parts = checked_parts(sub_path)?;
    let root = fs::open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::io("open", volume))?;
    let found = match open(&root, &parts) {
        Err(Errno::NOENT) => make(&root, &parts),
        found => found,
    };
    let found = found.map_err(Error::io("open", &volume.join(sub_path)))?;
    if mounts::is_mount_point(target)? {
        if shows(target, &found)? {
            return Ok(());
        }
        while mounts::is_mount_point(target)? {
            mounts::unmount(target)?;
        }
    }
    prepare_target(target, &found)?;
    Ok(mounts::bind_recursive(
        &PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd())),
        target,
    )?)
}

fn checked_parts(sub_path: &Path) -> Result<PathBuf> {
    let mut parts = PathBuf::new();
    for component in sub_path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => {
                return Err(Error::Invalid(format!(
                    "error SubPath `{}` must not be an absolute path",
                    sub_path.display()
                )));
            }
            Component::ParentDir => {
                return Err(Error::Invalid(format!(
                    "unable to provision SubPath `{}`: must not contain '..'",
                    sub_path.display()
                )));
            }
        }
    }
    Ok(if parts.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        parts
    })
}

fn open(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let mut attempts = 0;
    loop {
        match fs::openat2(
            root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            BENEATH,
        ) {
            Err(Errno::AGAIN) if attempts < ATTEMPTS_MAX => attempts += 1,
            opened => return opened,
        }
    }
}

/// Makes what is missing with the volume's own mode, so that a group that may write the volume may write there too.
fn make(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(fs::fstat(root)?.st_mode & 0o2777);
    let mut walked = PathBuf::new();
    let mut at = root.try_clone().map_err(|_| Errno::MFILE)?;
    for part in path.components() {
        walked.push(part);
        at = match open(root, &walked) {
            Err(Errno::NOENT) => {
                match fs::mkdirat(&at, part.as_os_str(), mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                let new = open(root, &walked)?;
                fs::chmodat(
                    fs::CWD,
                    format!("/proc/self/fd/{}", new.as_raw_fd()),
                    mode,
                    fs::AtFlags::empty(),
                )?;
                new
            }
            opened => opened?,
        };
    }
    Ok(at)
}

fn shows(target: &Path, found: &OwnedFd) -> Result<bool> {
    let there = std_fs::symlink_metadata(target).map_err(Error::io("read", target))?;
    let wanted = fs::fstat(found).map_err(Error::io("read", target))?;
    Ok((there.dev(), there.ino()) == (wanted.st_dev, wanted.st_ino))
}

fn prepare_target(target: &Path, found: &OwnedFd) -> Result<()> {
    let stat = fs::fstat(found).map_err(Error::io("read", target))?;
    let wants_directory = fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Directory;
    if let Some(parent) = target.parent() {
        std_fs::create_dir_all(parent).map_err(Error::io("make directory", parent))?;
    }
    match std_fs::symlink_metadata(target) {
        Ok(there) if there.is_dir() == wants_directory => return Ok(()),
        // An empty place of the other kind, from before.
        Ok(there) if there.is_dir() => {
            std_fs::remove_dir(target).map_err(Error::io("remove", target))?;
        }
        Ok(_) => std_fs::remove_file(target).map_err(Error::io("remove", target))?,
        Err(_) => {}
    }
    if wants_directory {
        std_fs::create_dir(target).map_err(Error::io("make directory", target))
    } else {
        std_fs::File::create(target)
            .map(drop)
            .map_err(Error::io("make", target))
    }
}

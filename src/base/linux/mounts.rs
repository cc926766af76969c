//! Mounts: each function is one mount or its end, and leaves nothing half made.

use crate::error::{Doing, Error, Result};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `MOUNT_ATTR_IDMAP` of `mount_setattr(2)`.
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
/// `MOUNT_ATTR_RDONLY` of `mount_setattr(2)`.
const MOUNT_ATTR_RDONLY: u64 = 0x0000_0001;

/// The directories of an overlay; the first lower one is on top.
#[derive(Debug)]
pub struct Overlay<'a> {
    pub lower: &'a [PathBuf],
    /// Writable layer and work directory on one filesystem; `None` makes a read-only overlay.
    pub writable: Option<(&'a Path, &'a Path)>,
    /// For example `volatile`, `userxattr`, or `index=off`.
    pub options: &'a [&'a str],
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Shows `source` at `target`, without the mounts below it.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    rustix::mount::mount_bind(source, target)
        .doing(|| format!("bind {} at {}", source.display(), target.display()))
}

/// Shows `source` at `target` with the mounts below it.
pub fn bind_recursive(source: &Path, target: &Path) -> Result<()> {
    rustix::mount::mount_bind_recursive(source, target)
        .doing(|| format!("bind {} at {}", source.display(), target.display()))
}

/// Shows a directory or file read-only; no suid, no devices.
pub fn bind_read_only(source: &Path, target: &Path) -> Result<()> {
    bind(source, target)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount(target, flags, c"")
        .doing(|| format!("make {} read-only", target.display()))
        .inspect_err(|_| drop(unmount(target)))
}

/// Makes a mount and all mounts below it read-only (Linux 5.12).
pub fn set_read_only_recursive(target: &Path) -> Result<()> {
    let path = c_path(target)?;
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    mount_setattr(CWD, &path, libc::AT_RECURSIVE, &attributes)
        .doing(|| format!("make {} read-only", target.display()))
}

/// A tmpfs, for example with `size=64m,mode=1777`. Never holds devices or suid programs.
pub fn tmpfs(target: &Path, options: &str) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let data = CString::new(options).map_err(|_| Error::other("mount tmpfs", "NUL in options"))?;
    rustix::mount::mount("tmpfs", target, "tmpfs", flags, Some(data.as_c_str()))
        .doing(|| format!("mount tmpfs at {}", target.display()))
}

/// An overlay. Any number of layers with paths of any length where the kernel knows `lowerdir+` (6.5).
pub fn overlay(layers: &Overlay<'_>, target: &Path) -> Result<()> {
    // Layers are named by descriptor: fsconfig takes values up to 255 bytes, and mount(2) one page.
    let lower = open_directories(layers.lower)?;
    let writable = match layers.writable {
        Some((upper, work)) => Some((open_directory(upper)?, open_directory(work)?)),
        None => None,
    };
    let names: Vec<String> = lower.iter().map(descriptor_path).collect();
    let writable = writable
        .as_ref()
        .map(|(upper, work)| (descriptor_path(upper), descriptor_path(work)));
    let mounted = match overlay_by_steps(&names, writable.as_ref(), layers.options, target) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            overlay_at_once(&names, writable.as_ref(), layers.options, target)
        }
        result => result,
    };
    mounted.doing(|| format!("mount overlay at {}", target.display()))
}

fn overlay_by_steps(
    lower: &[String],
    writable: Option<&(String, String)>,
    options: &[&str],
    target: &Path,
) -> rustix::io::Result<()> {
    use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string};
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in lower {
        fsconfig_set_string(fs.as_fd(), "lowerdir+", layer.as_str())?;
    }
    if let Some((upper, work)) = writable {
        fsconfig_set_string(fs.as_fd(), "upperdir", upper.as_str())?;
        fsconfig_set_string(fs.as_fd(), "workdir", work.as_str())?;
    }
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(fs.as_fd(), key, value)?,
            None => fsconfig_set_flag(fs.as_fd(), *option)?,
        }
    }
    fsconfig_create(fs.as_fd())?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mount = rustix::mount::fsmount(fs.as_fd(), flags, MountAttrFlags::empty())?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount.as_fd(), "", CWD, target, empty)
}

fn overlay_at_once(
    lower: &[String],
    writable: Option<&(String, String)>,
    options: &[&str],
    target: &Path,
) -> rustix::io::Result<()> {
    let mut data = format!("lowerdir={}", lower.join(":"));
    if let Some((upper, work)) = writable {
        data = format!("{data},upperdir={upper},workdir={work}");
    }
    for option in options {
        data.push(',');
        data.push_str(option);
    }
    let data = CString::new(data).map_err(|_| rustix::io::Errno::INVAL)?;
    rustix::mount::mount(
        "overlay",
        target,
        "overlay",
        MountFlags::empty(),
        Some(data.as_c_str()),
    )
}

/// Shows `source` (and the mounts below it) at `target`, ids of files mapped through a user namespace.
///
/// Needs Linux 5.12, and 6.3 for a tmpfs; fails with `EINVAL` on filesystems that cannot.
pub fn bind_id_mapped(source: &Path, target: &Path, user_namespace: BorrowedFd<'_>) -> Result<()> {
    let described = || {
        format!(
            "bind {} at {} id-mapped",
            source.display(),
            target.display()
        )
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, source, flags).doing(described)?;
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(user_namespace.as_raw_fd())
            .expect("an open descriptor is not negative"),
    };
    mount_setattr(
        tree.as_fd(),
        c"",
        libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
        &attributes,
    )
    .doing(described)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree.as_fd(), "", CWD, target, empty).doing(described)
}

fn mount_setattr(
    directory: BorrowedFd<'_>,
    path: &std::ffi::CStr,
    flags: i32,
    attributes: &MountAttr,
) -> std::io::Result<()> {
    // SAFETY: the path ends with NUL, the structure is the kernel's and its size is given; all are read only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Mounts made below `target` are not seen elsewhere from now on, nor the other way round.
pub fn make_private_recursive(target: &Path) -> Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(target, flags)
        .doing(|| format!("make {} private", target.display()))
}

/// Mounts made below `target` are seen in copies of it, and the other way round.
pub fn make_shared_recursive(target: &Path) -> Result<()> {
    let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    rustix::mount::mount_change(target, flags).doing(|| format!("make {} shared", target.display()))
}

/// Takes a mount away at once, even if files on it are open. A path that is no mount is fine.
pub fn unmount(target: &Path) -> Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error).doing(|| format!("unmount {}", target.display())),
    }
}

/// Takes away every mount at or below a directory, the last one made first.
pub fn unmount_below(directory: &Path) -> Result<()> {
    for entry in table()?.iter().rev() {
        if entry.mount_point.starts_with(directory) {
            unmount(&entry.mount_point)?;
        }
    }
    Ok(())
}

/// One line of /proc/self/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The part of the filesystem that is shown.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    pub filesystem: String,
    pub super_options: String,
    pub shared: bool,
}

/// The mounts this process sees, in the order they were made.
pub fn table() -> Result<Vec<MountEntry>> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).doing(|| format!("read {path}"))?;
    Ok(text.lines().filter_map(parse_entry).collect())
}

/// Whether something is mounted at exactly this path, whose directories above are no symbolic links. False when nothing is there.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    // The kernel knows it of one path (Linux 5.8); the whole table is long on a full node.
    match rustix::fs::statx(CWD, path, flags, StatxFlags::TYPE) {
        Ok(stat)
            if stat
                .stx_attributes_mask
                .contains(StatxAttributes::MOUNT_ROOT) =>
        {
            Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(false),
        _ => Ok(table()?.iter().any(|entry| entry.mount_point == path)),
    }
}

/// proc(5): id, parent, device, root, mount point, options, optional fields, `-`, type, source, super options.
fn parse_entry(line: &str) -> Option<MountEntry> {
    let (before, behind) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, mount_point) = (fields.next()?, fields.next()?);
    let shared = fields.any(|field| field.starts_with("shared:"));
    let mut fields = behind.splitn(3, ' ');
    let filesystem = fields.next()?.to_owned();
    let super_options = fields.nth(1)?.to_owned();
    Some(MountEntry {
        root: unescape(root),
        mount_point: unescape(mount_point),
        filesystem,
        super_options,
        shared,
    })
}

/// Blank, tab, line end and backslash are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            out.push(byte);
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

fn open_directories(paths: &[PathBuf]) -> Result<Vec<OwnedFd>> {
    paths.iter().map(|path| open_directory(path)).collect()
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).doing(|| format!("open {}", path.display()))
}

fn descriptor_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn c_path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::other(format!("use path {}", path.display()), "NUL in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_with_escapes_and_optional_fields_is_read() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let entry = parse_entry(line).unwrap();
        assert_eq!(entry.mount_point, PathBuf::from("/mnt 2"));
        assert_eq!(entry.filesystem, "ext3");
        assert!(entry.shared);
    }
}

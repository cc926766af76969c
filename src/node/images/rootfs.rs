//! Root filesystems of containers and read-only image volumes: overlayfs over unpacked layers.
//!
//! The mount is made with `fsopen`, which takes any number of layers; kernels without `lowerdir+` (before 6.8) get `mount(2)` with
//! `/proc/self/fd/N` for each layer, which keeps 200 layers below its limit of one page. There is no fall-back to copying: a data directory
//! on a file system that cannot carry an overlay's upper directory (another overlay, NFS) is refused with the kernel's answer.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index::ImageRecord;
use crate::layout::{self, LockMode};
use crate::store::{Hold, ImageStore};
use crate::unpack::OpaqueMark;

/// One string given to `fsconfig`, with its closing NUL.
const FSCONFIG_STRING_BYTES_MAX: usize = 256;
/// The options of `mount(2)` fill at most one page.
const MOUNT_OPTIONS_BYTES_MAX: usize = 4095;
const CONTAINER_ID_BYTES_MAX: usize = 128;

impl ImageStore {
    /// Mounts a writable root filesystem of the image for a container. Idempotent: a mounted one is given back as it is.
    pub fn prepare_rootfs(&self, image: &str, container: &str) -> Result<cri::RootFs> {
        let directory = self.container_directory(container)?;
        let _lock = layout::lock(&self.layout.content_lock(), LockMode::Shared)?;
        let (_, record) = self.find(image)?;
        let rootfs = cri::RootFs { path: directory.join("rootfs"), config: record.config.clone() };
        if is_mount_point(&rootfs.path)? {
            return Ok(rootfs);
        }
        self.hold(&container_hold(container), &record)?;
        for name in ["upper", "work", "rootfs"] {
            let path = directory.join(name);
            fs::create_dir_all(&path).map_err(Error::io("make directory", &path))?;
        }
        let lower = self.lower_directories(&record)?;
        like_top_layer(&directory.join("upper"), lower.first().map(PathBuf::as_path))?;
        let overlay = Overlay {
            lower,
            upper: Some((directory.join("upper"), directory.join("work"))),
            opaque_mark: self.opaque_mark,
        };
        overlay.mount(&rootfs.path)?;
        Ok(rootfs)
    }

    /// Unmounts a container's root filesystem and removes what the container wrote. Succeeds when there is none.
    pub fn remove_rootfs(&self, container: &str) -> Result<()> {
        let directory = self.container_directory(container)?;
        unmount_all(&directory.join("rootfs"))?;
        layout::remove_tree_if_there(&directory)?;
        self.release(&container_hold(container))
    }

    /// Mounts an image read-only at `target`, an existing directory. Idempotent.
    pub fn mount_volume(&self, image: &str, target: &Path) -> Result<()> {
        let _lock = layout::lock(&self.layout.content_lock(), LockMode::Shared)?;
        if is_mount_point(target)? {
            return Ok(());
        }
        let (_, record) = self.find(image)?;
        self.hold(&volume_hold(target), &record)?;
        let mut lower = self.lower_directories(&record)?;
        // Without an upper directory overlayfs wants two lower ones.
        while lower.len() < 2 {
            lower.push(self.empty_layer()?);
        }
        Overlay { lower, upper: None, opaque_mark: self.opaque_mark }.mount(target)
    }

    /// Undoes `mount_volume`; succeeds when nothing is mounted.
    pub fn unmount_volume(&self, target: &Path) -> Result<()> {
        unmount_all(target)?;
        self.release(&volume_hold(target))
    }

    /// What a container wrote.
    pub fn rootfs_usage(&self, container: &str) -> Result<cri::FilesystemUsage> {
        let upper = self.container_directory(container)?.join("upper");
        usage_of(&upper)
    }

    /// What images and writable layers use.
    pub fn fs_info(&self) -> Result<cri::ImageFilesystems> {
        let index = self.index()?;
        let mut images = cri::FilesystemUsage { mountpoint: self.layout.root().to_path_buf(), ..Default::default() };
        for blob in index.blobs() {
            if let Ok(metadata) = fs::metadata(self.layout.blob(blob)) {
                images.used_bytes += metadata.blocks() * 512;
                images.inodes_used += 1;
            }
        }
        for chain_id in index.chain_ids() {
            if let Some(info) = self.layer_info(chain_id)? {
                images.used_bytes += info.size_bytes;
                images.inodes_used += info.entries;
            }
        }
        let mut containers = cri::FilesystemUsage { mountpoint: self.containers.clone(), ..Default::default() };
        for entry in fs::read_dir(&self.containers).map_err(Error::io("list", &self.containers))? {
            let upper = entry.map_err(Error::io("list", &self.containers))?.path().join("upper");
            let usage = usage_of(&upper)?;
            containers.used_bytes += usage.used_bytes;
            containers.inodes_used += usage.inodes_used;
        }
        Ok(cri::ImageFilesystems { images, containers })
    }

    fn container_directory(&self, container: &str) -> Result<PathBuf> {
        let fits = !container.is_empty()
            && container.len() <= CONTAINER_ID_BYTES_MAX
            && !container.starts_with('.')
            && container.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if fits { Ok(self.containers.join(container)) } else { Err(Error::invalid(container, "is not a container id")) }
    }

    /// Unpacked layers, top first; unpacks again what is gone.
    fn lower_directories(&self, record: &ImageRecord) -> Result<Vec<PathBuf>> {
        self.unpack_layers(&record.layers)?;
        let mut lower: Vec<PathBuf> =
            record.layers.iter().rev().map(|layer| self.layout.layer(&layer.chain_id).join("fs")).collect();
        if lower.is_empty() {
            lower.push(self.empty_layer()?);
        }
        Ok(lower)
    }

    fn empty_layer(&self) -> Result<PathBuf> {
        let path = self.layout.root().join("empty");
        fs::create_dir_all(&path).map_err(Error::io("make directory", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Error::io("set the mode of", &path))?;
        Ok(path)
    }

    fn hold(&self, holder: &str, record: &ImageRecord) -> Result<()> {
        let chain_ids = record.layers.iter().map(|layer| layer.chain_id.clone()).collect();
        layout::write_json(&self.layout.holds().join(format!("{holder}.json")), &Hold { chain_ids })
    }

    fn release(&self, holder: &str) -> Result<()> {
        let path = self.layout.holds().join(format!("{holder}.json"));
        let held: Option<Hold> = layout::read_json(&path)?;
        layout::remove_file_if_there(&path)?;
        let index = self.index()?;
        let known = index.chain_ids();
        match held {
            // Only layers whose image is gone can have become garbage.
            Some(hold) if hold.chain_ids.iter().any(|chain_id| !known.contains(chain_id)) => self.sweep(),
            _ => Ok(()),
        }
    }
}

fn container_hold(container: &str) -> String {
    format!("container-{container}")
}

fn volume_hold(target: &Path) -> String {
    format!("volume-{}", Digest::of(target.as_os_str().as_encoded_bytes()).hex())
}

/// The root of an overlay has the owner and the mode of its upper directory, so that one must look like the image's root.
fn like_top_layer(upper: &Path, top: Option<&Path>) -> Result<()> {
    let Some(top) = top else { return Ok(()) };
    let metadata = fs::metadata(top).map_err(Error::io("read", top))?;
    std::os::unix::fs::chown(upper, Some(metadata.uid()), Some(metadata.gid())).map_err(Error::io("set the owner of", upper))?;
    fs::set_permissions(upper, fs::Permissions::from_mode(metadata.mode() & 0o7777)).map_err(Error::io("set the mode of", upper))
}

struct Overlay {
    /// Top first.
    lower: Vec<PathBuf>,
    /// Upper and work directory; without them the mount is read-only.
    upper: Option<(PathBuf, PathBuf)>,
    opaque_mark: OpaqueMark,
}

impl Overlay {
    fn mount(&self, target: &Path) -> Result<()> {
        let opened: Vec<(&Path, OwnedFd)> = self
            .directories()
            .map(|path| File::open(path).map(|file| (path, OwnedFd::from(file))).map_err(Error::io("open", path)))
            .collect::<Result<_>>()?;
        let (upper, lower) = opened.split_at(if self.upper.is_some() { 2 } else { 0 });
        let mounted = match self.mount_by_fsopen(upper, lower, target) {
            Err(Errno::INVAL | Errno::NOSYS) => self.mount_by_options(upper, lower, target),
            mounted => mounted,
        };
        mounted.map_err(Error::errno("mount the image at", target))
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        let upper = self.upper.iter().flat_map(|(upper, work)| [upper.as_path(), work.as_path()]);
        upper.chain(self.lower.iter().map(PathBuf::as_path))
    }

    fn mount_by_fsopen(&self, upper: &[(&Path, OwnedFd)], lower: &[(&Path, OwnedFd)], target: &Path) -> rustix::io::Result<()> {
        let overlay = mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, (path, descriptor): &(&Path, OwnedFd)| {
            mount::fsconfig_set_string(overlay.as_fd(), key, short_path(path, descriptor))
        };
        mount::fsconfig_set_string(overlay.as_fd(), "source", "combo")?;
        lower.iter().try_for_each(|directory| set("lowerdir+", directory))?;
        if let [upper, work] = upper {
            set("upperdir", upper)?;
            set("workdir", work)?;
            // What a container wrote does not outlive it, so nothing of it needs to reach the disk at once (Linux 5.10).
            mount::fsconfig_set_flag(overlay.as_fd(), "volatile")?;
        }
        if self.opaque_mark == OpaqueMark::User {
            mount::fsconfig_set_flag(overlay.as_fd(), "userxattr")?;
        }
        mount::fsconfig_create(overlay.as_fd())?;
        let attributes = if self.upper.is_some() { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
        let mounted = mount::fsmount(overlay.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        mount::move_mount(mounted.as_fd(), "", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }

    fn mount_by_options(&self, upper: &[(&Path, OwnedFd)], lower: &[(&Path, OwnedFd)], target: &Path) -> rustix::io::Result<()> {
        let path = |(_, descriptor): &(&Path, OwnedFd)| descriptor_path(descriptor);
        let mut options = format!("lowerdir={}", lower.iter().map(path).collect::<Vec<_>>().join(":"));
        if let [upper, work] = upper {
            options.push_str(&format!(",upperdir={},workdir={}", path(upper), path(work)));
        }
        if self.opaque_mark == OpaqueMark::User {
            options.push_str(",userxattr");
        }
        if options.len() > MOUNT_OPTIONS_BYTES_MAX {
            return Err(Errno::TOOBIG);
        }
        let options = std::ffi::CString::new(options).map_err(|_nul| Errno::INVAL)?;
        let flags = if self.upper.is_some() { MountFlags::empty() } else { MountFlags::RDONLY };
        mount::mount("combo", target, "overlay", flags, options.as_c_str())
    }
}

/// The path itself where it fits into one option, because it is what people see in the list of mounts.
fn short_path(path: &Path, descriptor: &OwnedFd) -> PathBuf {
    if path.as_os_str().len() < FSCONFIG_STRING_BYTES_MAX { path.to_path_buf() } else { PathBuf::from(descriptor_path(descriptor)) }
}

fn descriptor_path(descriptor: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

/// A mount point differs from its parent in device or is the parent.
fn is_mount_point(path: &Path) -> Result<bool> {
    let Some(parent) = path.parent() else { return Ok(true) };
    match (fs::symlink_metadata(path), fs::symlink_metadata(parent)) {
        (Ok(here), Ok(above)) => Ok(here.dev() != above.dev()),
        (Err(error), _) | (_, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        (Err(source), _) | (_, Err(source)) => Err(Error::io("read", path)(source)),
    }
}

/// Mounts may be stacked on one place; all of them go.
fn unmount_all(target: &Path) -> Result<()> {
    loop {
        match mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Error::errno("unmount", target)(errno)),
        }
    }
}

/// Allocated bytes and inodes of a tree; files that vanish meanwhile do not count.
fn usage_of(tree: &Path) -> Result<cri::FilesystemUsage> {
    let mut usage = cri::FilesystemUsage { mountpoint: tree.to_path_buf(), ..Default::default() };
    let mut pending = vec![tree.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::io("list", &directory)(source)),
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            usage.used_bytes += metadata.blocks() * 512;
            usage.inodes_used += 1;
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(usage)
}

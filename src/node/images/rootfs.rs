//! Root filesystems of containers and read-only image volumes: overlayfs over unpacked layers.
//!
//! There is no fall-back to copying: a data directory on a file system that cannot carry an overlay's upper directory (another overlay, NFS)
//! is refused with the kernel's answer.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use linux::mounts;
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index::ImageRecord;
use crate::layout::{self, LockMode};
use crate::store::{Hold, ImageStore};
use crate::unpack::OpaqueMark;

const CONTAINER_ID_BYTES_MAX: usize = 128;

impl ImageStore {
    /// Mounts a writable root filesystem of the image for a container. Idempotent: a mounted one is given back as it is.
    pub fn prepare_rootfs(&self, image: &str, container: &str) -> Result<cri::RootFs> {
        let directory = self.container_directory(container)?;
        let _lock = layout::lock(&self.layout.content_lock(), LockMode::Shared)?;
        let (_, record) = self.find(image)?;
        let rootfs = cri::RootFs {
            path: directory.join("rootfs"),
            config: record.config.clone(),
        };
        if mounts::is_mount_point(&rootfs.path)? {
            return Ok(rootfs);
        }
        self.hold(&container_hold(container), &record)?;
        for name in ["upper", "work", "rootfs"] {
            let path = directory.join(name);
            fs::create_dir_all(&path).map_err(Error::io("make directory", &path))?;
        }
        let lower = self.lower_directories(&record)?;
        like_top_layer(
            &directory.join("upper"),
            lower.first().map(PathBuf::as_path),
        )?;
        let (upper, work) = (directory.join("upper"), directory.join("work"));
        mount_overlay(
            &lower,
            Some((&upper, &work)),
            self.opaque_mark,
            &rootfs.path,
        )?;
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
        if mounts::is_mount_point(target)? {
            return Ok(());
        }
        let (_, record) = self.find(image)?;
        self.hold(&volume_hold(target), &record)?;
        let mut lower = self.lower_directories(&record)?;
        // Without an upper directory overlayfs wants two lower ones.
        while lower.len() < 2 {
            lower.push(self.empty_layer()?);
        }
        mount_overlay(&lower, None, self.opaque_mark, target)
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
        let mut images = cri::FilesystemUsage {
            mountpoint: self.layout.root().to_path_buf(),
            ..Default::default()
        };
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
        let mut containers = cri::FilesystemUsage {
            mountpoint: self.containers.clone(),
            ..Default::default()
        };
        for entry in fs::read_dir(&self.containers).map_err(Error::io("list", &self.containers))? {
            let upper = entry
                .map_err(Error::io("list", &self.containers))?
                .path()
                .join("upper");
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
            && container
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if fits {
            Ok(self.containers.join(container))
        } else {
            Err(Error::invalid(container, "is not a container id"))
        }
    }

    /// Unpacked layers, top first; unpacks again what is gone.
    fn lower_directories(&self, record: &ImageRecord) -> Result<Vec<PathBuf>> {
        self.unpack_layers(&record.layers)?;
        let mut lower: Vec<PathBuf> = record
            .layers
            .iter()
            .rev()
            .map(|layer| self.layout.layer(&layer.chain_id).join("fs"))
            .collect();
        if lower.is_empty() {
            lower.push(self.empty_layer()?);
        }
        Ok(lower)
    }

    fn empty_layer(&self) -> Result<PathBuf> {
        let path = self.layout.root().join("empty");
        fs::create_dir_all(&path).map_err(Error::io("make directory", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(Error::io("set the mode of", &path))?;
        Ok(path)
    }

    fn hold(&self, holder: &str, record: &ImageRecord) -> Result<()> {
        let chain_ids = record
            .layers
            .iter()
            .map(|layer| layer.chain_id.clone())
            .collect();
        layout::write_json(
            &self.layout.holds().join(format!("{holder}.json")),
            &Hold { chain_ids },
        )
    }

    fn release(&self, holder: &str) -> Result<()> {
        let path = self.layout.holds().join(format!("{holder}.json"));
        let held: Option<Hold> = layout::read_json(&path)?;
        layout::remove_file_if_there(&path)?;
        let index = self.index()?;
        let known = index.chain_ids();
        match held {
            // Only layers whose image is gone can have become garbage.
            Some(was)
                if was
                    .chain_ids
                    .iter()
                    .any(|chain_id| !known.contains(chain_id)) =>
            {
                self.sweep()
            }
            _ => Ok(()),
        }
    }
}

fn container_hold(container: &str) -> String {
    format!("container-{container}")
}

fn volume_hold(target: &Path) -> String {
    format!(
        "volume-{}",
        Digest::of(target.as_os_str().as_encoded_bytes()).hex()
    )
}

/// The root of an overlay has the owner and the mode of its upper directory, so that one must look like the image's root.
fn like_top_layer(upper: &Path, top: Option<&Path>) -> Result<()> {
    let Some(top) = top else { return Ok(()) };
    let metadata = fs::metadata(top).map_err(Error::io("read", top))?;
    std::os::unix::fs::chown(upper, Some(metadata.uid()), Some(metadata.gid()))
        .map_err(Error::io("set the owner of", upper))?;
    fs::set_permissions(upper, fs::Permissions::from_mode(metadata.mode() & 0o7777))
        .map_err(Error::io("set the mode of", upper))
}

/// Mounts an overlay; `writable` are its upper and its work directory.
fn mount_overlay(
    lower: &[PathBuf],
    writable: Option<(&Path, &Path)>,
    opaque_mark: OpaqueMark,
    target: &Path,
) -> Result<()> {
    let marks: &[&str] = match opaque_mark {
        OpaqueMark::Trusted => &[],
        OpaqueMark::User => &["userxattr"],
    };
    // What a container wrote does not outlive it, so nothing of it needs to reach the disk at once (Linux 5.10).
    let volatile = [marks, &["volatile"]].concat();
    let wanted = if writable.is_some() {
        volatile.as_slice()
    } else {
        marks
    };
    let overlay = |options| {
        mounts::overlay(
            &mounts::Overlay {
                lower,
                writable,
                options,
            },
            target,
        )
    };
    match overlay(wanted) {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            Ok(overlay(marks)?)
        }
        mounted => Ok(mounted?),
    }
}

/// Mounts may be stacked on one place; all of them go.
fn unmount_all(target: &Path) -> Result<()> {
    while mounts::is_mount_point(target)? {
        mounts::unmount(target)?;
    }
    Ok(())
}

/// Allocated bytes and inodes of a tree; files that vanish meanwhile do not count.
fn usage_of(tree: &Path) -> Result<cri::FilesystemUsage> {
    let mut usage = cri::FilesystemUsage {
        mountpoint: tree.to_path_buf(),
        ..Default::default()
    };
    let mut pending = vec![tree.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::io("list", &directory)(source)),
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            usage.used_bytes += metadata.blocks() * 512;
            usage.inodes_used += 1;
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(usage)
}

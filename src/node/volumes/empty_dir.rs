//! `emptyDir`: a directory that lives as long as the pod, on disk or in memory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use apimachinery::Quantity;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;
use linux::mounts;
use semantics::resources::pod_limits;

use crate::error::{Error, Result, blocking};
use crate::plugin::{MountedVolume, Request, VolumePlugin};

/// Everybody may write; containers of one pod may run as different users.
const MODE: u32 = 0o777;
const SET_GROUP_ID: u32 = 0o2000;
/// Enough for every object that a volume may show (an object has at most 1 MiB), and no more.
const OBJECTS_BYTES_MAX: i64 = 64 * 1024 * 1024;

pub(crate) struct EmptyDir;

#[async_trait]
impl VolumePlugin for EmptyDir {
    fn name(&self) -> &'static str {
        "kubernetes.io~empty-dir"
    }

    fn takes(&self, volume: &Volume) -> bool {
        volume.empty_dir.is_some()
    }

    async fn set_up(&self, request: &Request<'_>) -> Result<MountedVolume> {
        let source = request.volume.empty_dir.clone().unwrap_or_default();
        let (directory, group) = (request.directory.clone(), request.fs_group());
        match source.medium.as_deref().unwrap_or_default() {
            "" => {
                blocking({
                    let directory = directory.clone();
                    move || on_disk(&directory, group)
                })
                .await?;
            }
            "Memory" => {
                let size_bytes = memory_size(request)?;
                let directory = directory.clone();
                blocking(move || in_memory(&directory, size_bytes, group)).await?;
            }
            other if other.starts_with("HugePages") => {
                return Err(Error::Unsupported(format!(
                    "emptyDir volumes of medium {other}"
                )));
            }
            other => return Err(Error::Invalid(format!("unknown storage medium {other:?}"))),
        }
        Ok(MountedVolume {
            host_path: directory,
            read_only: false,
            idmap: true,
        })
    }
}

/// The smallest of the volume's own limit, the pod's memory and the node's: more could not be used anyway.
fn memory_size(request: &Request<'_>) -> Result<Option<i64>> {
    let source = request.volume.empty_dir.as_ref();
    let own = match source.and_then(|source| source.size_limit.as_ref()) {
        None => None,
        Some(limit) => {
            let limit = Quantity::parse(&limit.0)
                .map_err(|error| Error::Invalid(format!("sizeLimit {:?}: {error}", limit.0)))?;
            Some(limit.units()).filter(|bytes| *bytes > 0)
        }
    };
    let of_pod = request.pod.spec.as_ref().and_then(|spec| {
        // A container without a limit may use all that the node has.
        let all_limited = spec.containers.iter().all(|container| {
            let limits = container
                .resources
                .as_ref()
                .and_then(|resources| resources.limits.as_ref());
            limits.is_some_and(|limits| limits.contains_key("memory"))
        });
        let limit = pod_limits(spec).get("memory").map(|limit| limit.units());
        limit.filter(|bytes| all_limited && *bytes > 0)
    });
    let of_node = request
        .facts
        .allocatable
        .get("memory")
        .map(|limit| limit.units())
        .filter(|bytes| *bytes > 0);
    Ok([own, of_pod, of_node].into_iter().flatten().min())
}

/// Appears with its final mode and group, or not at all. What containers change later is theirs.
pub(crate) fn on_disk(directory: &Path, group: Option<u32>) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let new = directory.with_extension("combo-new");
    match fs::create_dir(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io("make directory", &new)(error));
        }
        _ => {}
    }
    chown(&new, Some(0), Some(group.unwrap_or(0))).map_err(Error::io("set the group of", &new))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode(group)))
        .map_err(Error::io("set the mode of", &new))?;
    fs::rename(&new, directory).map_err(Error::io("rename to", directory))
}

/// A tmpfs; mode and group come with the mount.
pub(crate) fn in_memory(
    directory: &Path,
    size_bytes: Option<i64>,
    group: Option<u32>,
) -> Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io("make directory", directory)(error));
        }
        _ => {}
    }
    if mounts::is_mount_point(directory)? {
        return Ok(());
    }
    let mut options = format!("mode={:o},gid={}", mode(group), group.unwrap_or(0));
    if let Some(size_bytes) = size_bytes {
        options = format!("{options},size={size_bytes}");
    }
    // Memory that reaches the swap reaches the disk (Linux 6.4 can say no).
    match mounts::tmpfs(directory, &format!("{options},noswap")) {
        Err(_) => Ok(mounts::tmpfs(directory, &options)?),
        mounted => Ok(mounted?),
    }
}

/// The tmpfs of a volume of objects. Its files get their group when they are written.
pub(crate) fn in_memory_for_objects(directory: &Path) -> Result<()> {
    in_memory(directory, Some(OBJECTS_BYTES_MAX), None)
}

fn mode(group: Option<u32>) -> u32 {
    if group.is_some() {
        MODE | SET_GROUP_ID
    } else {
        MODE
    }
}

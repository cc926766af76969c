//! What the kubelet needs of volumes, in its own words: every volume of a pod ready on the node, and given back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;

/// A volume of a pod as it lies on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountedVolume {
    /// A directory, or a file for a `hostPath` of one.
    pub host_path: PathBuf,
    /// Read-only by its nature (config maps, secrets, images).
    pub read_only: bool,
    /// Ids of files are mapped through the pod's user namespace.
    pub idmap: bool,
}

/// The volumes of one pod, by their names in the spec.
pub type MountedVolumes = BTreeMap<String, MountedVolume>;

/// Why a volume is not ready. The text is shown to the user as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VolumeError(pub String);

/// Makes and removes the volumes of pods. Every call may be repeated: what is there is kept and brought up to date.
#[async_trait]
pub trait PodVolumes: Send + Sync {
    /// Makes every volume of the pod ready, and updates contents that changed (config maps, secrets, tokens, labels).
    async fn set_up(&self, pod: &Pod) -> Result<MountedVolumes, VolumeError>;

    /// The host path of `sub_path` in a volume for one container, made if missing; it never leaves the volume, and it stays
    /// the same file or directory while the volume's content is exchanged.
    async fn sub_path(
        &self,
        pod_uid: &str,
        container: &str,
        mount_index: usize,
        volume: &MountedVolume,
        sub_path: &Path,
    ) -> Result<PathBuf, VolumeError>;

    /// Unmounts and removes everything of a pod. Succeeds when there is nothing.
    async fn tear_down(&self, pod_uid: &str) -> Result<(), VolumeError>;

    /// UIDs of pods that have something on the node.
    async fn existing(&self) -> Result<Vec<String>, VolumeError>;
}

/// A node without volumes: pods that name any are held.
#[derive(Debug, Default)]
pub struct NoVolumes;

#[async_trait]
impl PodVolumes for NoVolumes {
    async fn set_up(&self, pod: &Pod) -> Result<MountedVolumes, VolumeError> {
        let named = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref()).and_then(|volumes| volumes.first());
        match named {
            None => Ok(MountedVolumes::new()),
            Some(volume) => Err(VolumeError(format!("volume {:?}: this node has no volumes", volume.name))),
        }
    }

    async fn sub_path(
        &self,
        _pod_uid: &str,
        _container: &str,
        _mount_index: usize,
        _volume: &MountedVolume,
        _sub_path: &Path,
    ) -> Result<PathBuf, VolumeError> {
        Err(VolumeError("this node has no volumes".to_owned()))
    }

    async fn tear_down(&self, _pod_uid: &str) -> Result<(), VolumeError> {
        Ok(())
    }

    async fn existing(&self) -> Result<Vec<String>, VolumeError> {
        Ok(Vec::new())
    }
}

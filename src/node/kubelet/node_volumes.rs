//! The node's real volumes behind the kubelet's own words.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use volumes::NodeVolumes;

use crate::volumes::{MountedVolume, MountedVolumes, PodVolumes, VolumeError};

#[async_trait]
impl PodVolumes for NodeVolumes {
    async fn set_up(&self, pod: &Pod) -> Result<MountedVolumes, VolumeError> {
        let mounted = self.set_up(pod).await.map_err(error)?;
        let in_our_words = |(name, volume): (String, volumes::MountedVolume)| {
            (name, MountedVolume { host_path: volume.host_path, read_only: volume.read_only, idmap: volume.idmap })
        };
        Ok(mounted.into_iter().map(in_our_words).collect())
    }

    async fn sub_path(
        &self,
        pod_uid: &str,
        container: &str,
        mount_index: usize,
        volume: &MountedVolume,
        sub_path: &Path,
    ) -> Result<PathBuf, VolumeError> {
        let volume = volumes::MountedVolume {
            host_path: volume.host_path.clone(),
            read_only: volume.read_only,
            idmap: volume.idmap,
        };
        self.sub_path(pod_uid, container, mount_index, &volume, sub_path).await.map_err(error)
    }

    async fn tear_down(&self, pod_uid: &str) -> Result<(), VolumeError> {
        self.tear_down(pod_uid).await.map_err(error)
    }

    async fn existing(&self) -> Result<Vec<String>, VolumeError> {
        self.existing().map_err(error)
    }
}

fn error(error: volumes::Error) -> VolumeError {
    VolumeError(error.to_string())
}

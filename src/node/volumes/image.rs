//! `image`: the files of an image, read-only.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;
use linux::mounts;

use crate::error::{Error, Result};
use crate::plugin::{MountedVolume, Request, VolumePlugin};

pub(crate) struct Image;

#[async_trait]
impl VolumePlugin for Image {
    fn name(&self) -> &'static str {
        "kubernetes.io~image"
    }

    fn takes(&self, volume: &Volume) -> bool {
        volume.image.is_some()
    }

    /// The image is pulled and mounted once: a pod keeps the content it began with.
    async fn set_up(&self, request: &Request<'_>) -> Result<MountedVolume> {
        let mounted = MountedVolume {
            host_path: request.directory.clone(),
            read_only: true,
            idmap: false,
        };
        if mounts::is_mount_point(&request.directory)? {
            return Ok(mounted);
        }
        let source = request.volume.image.clone().unwrap_or_default();
        let reference = source.reference.filter(|reference| !reference.is_empty());
        let reference = reference
            .ok_or_else(|| Error::Invalid(String::from("the image volume names no image")))?;
        let policy = source.pull_policy.as_deref();
        let shared = request.shared;
        let image = shared
            .objects
            .image(request.pod, &reference, policy)
            .await
            .map_err(Error::Source)?;
        let directory = &request.directory;
        std::fs::create_dir_all(directory).map_err(Error::io("make directory", directory))?;
        let made = shared.images.mount_image(&image, directory).await;
        made.map_err(|error| Error::Source(error.to_string()))?;
        Ok(mounted)
    }
}

//! `downwardAPI`: facts of the pod itself as files, in memory.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use crate::empty_dir;
use crate::error::Result;
use crate::payload::downward_api_payload;
use crate::plugin::{MountedVolume, Request, VolumePlugin};

pub(crate) struct DownwardApi;

#[async_trait]
impl VolumePlugin for DownwardApi {
    fn name(&self) -> &'static str {
        "kubernetes.io~downward-api"
    }

    fn takes(&self, volume: &Volume) -> bool {
        volume.downward_api.is_some()
    }

    async fn set_up(&self, request: &Request<'_>) -> Result<MountedVolume> {
        let source = request.volume.downward_api.clone().unwrap_or_default();
        let items = source.items.as_deref().unwrap_or_default();
        let payload =
            downward_api_payload(items, request.pod, &request.facts, source.default_mode)?;
        request
            .write_payload(payload, empty_dir::in_memory_for_objects)
            .await
    }
}

//! `configMap`: the keys of a config map as files, on disk.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use crate::empty_dir;
use crate::error::{Error, Result};
use crate::payload::{Projection, config_map_payload};
use crate::plugin::{MountedVolume, Request, VolumePlugin};

pub(crate) struct ConfigMap;

#[async_trait]
impl VolumePlugin for ConfigMap {
    fn name(&self) -> &'static str {
        "kubernetes.io~configmap"
    }

    fn takes(&self, volume: &Volume) -> bool {
        volume.config_map.is_some()
    }

    async fn set_up(&self, request: &Request<'_>) -> Result<MountedVolume> {
        let source = request.volume.config_map.clone().unwrap_or_default();
        let found = request
            .shared
            .objects
            .config_map(request.namespace(), &source.name)
            .await
            .map_err(Error::Source)?;
        let projection = Projection {
            items: source.items.as_deref().unwrap_or_default(),
            default_mode: source.default_mode,
            optional: source.optional.unwrap_or(false),
        };
        let payload = config_map_payload(&source.name, found.as_ref(), projection)?;
        request
            .write_payload(payload, |directory| empty_dir::on_disk(directory, None))
            .await
    }
}

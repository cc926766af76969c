//! `secret`: the keys of a secret as files, in memory.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use crate::empty_dir;
use crate::error::{Error, Result};
use crate::payload::{Projection, secret_payload};
use crate::plugin::{MountedVolume, Request, VolumePlugin};

pub(crate) struct Secret;

#[async_trait]
impl VolumePlugin for Secret {
    fn name(&self) -> &'static str {
        "kubernetes.io~secret"
    }

    fn takes(&self, volume: &Volume) -> bool {
        volume.secret.is_some()
    }

    async fn set_up(&self, request: &Request<'_>) -> Result<MountedVolume> {
        let source = request.volume.secret.clone().unwrap_or_default();
        let name = source.secret_name.unwrap_or_default();
        let found = request
            .shared
            .objects
            .secret(request.namespace(), &name)
            .await
            .map_err(Error::Source)?;
        let projection = Projection {
            items: source.items.as_deref().unwrap_or_default(),
            default_mode: source.default_mode,
            optional: source.optional.unwrap_or(false),
        };
        let payload = secret_payload(&name, found.as_ref(), projection)?;
        request
            .write_payload(payload, empty_dir::in_memory_for_objects)
            .await
    }
}

//! All kinds of volumes that this node has no hands for: refused by name.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use crate::error::{Error, Result};
use crate::plugin::{MountedVolume, Request, VolumePlugin};

pub(crate) struct Unsupported;

#[async_trait]
impl VolumePlugin for Unsupported {
    fn name(&self) -> &'static str {
        "kubernetes.io~unsupported"
    }

    fn takes(&self, _volume: &Volume) -> bool {
        true
    }

    async fn set_up(&self, request: &Request<'_>) -> Result<MountedVolume> {
        Err(Error::Unsupported(format!(
            "{} volumes",
            kind_of(request.volume)
        )))
    }
}

/// The kind's field in the API: the one member beside the name.
fn kind_of(volume: &Volume) -> String {
    let members = apimachinery::to_tree(volume)
        .ok()
        .and_then(|value| value.as_object().cloned())
        .unwrap_or_default();
    let kind = members.keys().find(|key| *key != "name").cloned();
    kind.unwrap_or_else(|| String::from("unknown"))
}

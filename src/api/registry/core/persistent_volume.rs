//! Persistent Volumes of `v1`.

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::{DeleteAnswer, Strategy, Subresource};
use crate::pod_template::default_text;

/// Objects of kind `PersistentVolume`.
#[derive(Debug)]
pub struct PersistentVolumes;

impl Strategy for PersistentVolumes {
    type Kind = PersistentVolume;
    const SHORT_NAMES: &'static [&'static str] = &["pv"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(volume: &mut PersistentVolume) {
        default_text(&mut volume.status.get_or_insert_default().phase, "Pending");
        let Some(spec) = &mut volume.spec else { return };
        default_text(&mut spec.persistent_volume_reclaim_policy, "Retain");
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        if let Some(path) = &mut spec.host_path {
            path.type_.get_or_insert_default();
        }
    }
}

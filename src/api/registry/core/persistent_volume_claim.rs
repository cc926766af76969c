//! Persistent Volume Claims of `v1`.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use serde_json::Value;

use crate::{Column, DeleteAnswer, Strategy, Subresource};
use crate::cells;
use crate::pod_template::{default_claim_spec, default_text};

/// Objects of kind `PersistentVolumeClaim`.
#[derive(Debug)]
pub struct PersistentVolumeClaims;

impl Strategy for PersistentVolumeClaims {
    type Kind = PersistentVolumeClaim;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Status", |claim, _| match &claim.metadata.deletion_timestamp {
            Some(_) => "Terminating".into(),
            None => claim.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default().into(),
        }),
        Column::text("Volume", |claim, _| volume(claim).into()),
        Column::text("Capacity", |claim, _| match volume(claim) {
            "" => "".into(),
            _ => cells::storage(claim.status.as_ref().and_then(|status| status.capacity.as_ref())).into(),
        }),
        Column::text("Access Modes", |claim, _| match volume(claim) {
            "" => "".into(),
            _ => cells::access_modes(claim.status.as_ref().and_then(|status| status.access_modes.as_ref())).into(),
        }),
        Column::text("StorageClass", |claim, _| match cells::storage_class_annotation(&claim.metadata) {
            Some(class) => class.into(),
            None => spec_text(claim, |spec| spec.storage_class_name.as_ref(), ""),
        }),
        Column::text("VolumeAttributesClass", |claim, _| spec_text(claim, |spec| spec.volume_attributes_class_name.as_ref(), cells::UNSET)),
        Column::age(),
        Column::wide_text("VolumeMode", |claim, _| spec_text(claim, |spec| spec.volume_mode.as_ref(), cells::UNSET)),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["pvc"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(claim: &mut PersistentVolumeClaim) {
        default_text(&mut claim.status.get_or_insert_default().phase, "Pending");
        claim.spec.iter_mut().for_each(default_claim_spec);
    }
}

/// The name of the bound volume; empty before.
fn volume(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

fn spec_text(
    claim: &PersistentVolumeClaim,
    field: fn(&PersistentVolumeClaimSpec) -> Option<&String>,
    missing: &str,
) -> Value {
    claim.spec.as_ref().and_then(field).map_or(missing, String::as_str).into()
}

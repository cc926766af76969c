//! Persistent Volume Claims of `v1`.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, TypedLocalObjectReference,
    TypedObjectReference,
};
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

    fn prepare_for_create(claim: &mut PersistentVolumeClaim) {
        claim.status =
            Some(PersistentVolumeClaimStatus { phase: Some("Pending".to_owned()), ..PersistentVolumeClaimStatus::default() });
        claim.spec.iter_mut().for_each(|spec| align_data_sources(spec, None));
    }

    fn prepare_for_update(claim: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        claim.spec.iter_mut().for_each(|spec| align_data_sources(spec, old.spec.as_ref()));
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

/// `dataSource` and `dataSourceRef` say the same where both can (KEP-1495). The older field only ever knew claims and
/// snapshots; anything else in it is dropped, unless the claim has had a source before.
fn align_data_sources(spec: &mut PersistentVolumeClaimSpec, old: Option<&PersistentVolumeClaimSpec>) {
    let had_source = old.is_some_and(|old| old.data_source.is_some() || old.data_source_ref.is_some());
    if !had_source && spec.data_source_ref.is_none() {
        spec.data_source = spec.data_source.take().filter(is_claim_or_snapshot);
    }
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                namespace: None,
            });
        }
        (None, Some(source)) if source.namespace.as_deref().is_none_or(str::is_empty) => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
            });
        }
        _ => {}
    }
}

fn is_claim_or_snapshot(source: &TypedLocalObjectReference) -> bool {
    matches!(
        (source.kind.as_str(), source.api_group.as_deref().unwrap_or_default()),
        ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
    )
}

//! Persistent Volumes of `v1`.

use super::persistent_volume_validation;
use apimachinery::FieldErrors;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
use serde_json::Value;

use crate::cells;
use crate::pod_template::default_text;
use crate::{Column, DeleteAnswer, Strategy, Subresource};

/// Objects of kind `PersistentVolume`.
#[derive(Debug)]
pub struct PersistentVolumes;

impl Strategy for PersistentVolumes {
    type Kind = PersistentVolume;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Capacity", |volume, _| {
            cells::storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref())).into()
        }),
        Column::text("Access Modes", |volume, _| {
            cells::access_modes(
                volume
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.access_modes.as_ref()),
            )
            .into()
        }),
        Column::text("Reclaim Policy", |volume, _| {
            spec_text(
                volume,
                |spec| spec.persistent_volume_reclaim_policy.as_ref(),
                "",
            )
        }),
        Column::text("Status", |volume, _| {
            match &volume.metadata.deletion_timestamp {
                Some(_) => "Terminating".into(),
                None => volume
                    .status
                    .as_ref()
                    .and_then(|status| status.phase.clone())
                    .unwrap_or_default()
                    .into(),
            }
        }),
        Column::text("Claim", |volume, _| {
            match volume
                .spec
                .as_ref()
                .and_then(|spec| spec.claim_ref.as_ref())
            {
                Some(claim) => format!(
                    "{}/{}",
                    claim.namespace.as_deref().unwrap_or_default(),
                    claim.name.as_deref().unwrap_or_default()
                )
                .into(),
                None => "".into(),
            }
        }),
        Column::text(
            "StorageClass",
            |volume, _| match cells::storage_class_annotation(&volume.metadata) {
                Some(class) => class.into(),
                None => spec_text(volume, |spec| spec.storage_class_name.as_ref(), ""),
            },
        ),
        Column::text("VolumeAttributesClass", |volume, _| {
            spec_text(
                volume,
                |spec| spec.volume_attributes_class_name.as_ref(),
                cells::UNSET,
            )
        }),
        Column::text("Reason", |volume, _| {
            volume
                .status
                .as_ref()
                .and_then(|status| status.reason.clone())
                .unwrap_or_default()
                .into()
        }),
        Column::age(),
        Column::wide_text("VolumeMode", |volume, _| {
            spec_text(volume, |spec| spec.volume_mode.as_ref(), cells::UNSET)
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["pv"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(volume: &mut PersistentVolume) {
        default_text(&mut volume.status.get_or_insert_default().phase, "Pending");
        let Some(spec) = &mut volume.spec else { return };
        default_text(&mut spec.persistent_volume_reclaim_policy, "Retain");
        spec.volume_mode
            .get_or_insert_with(|| "Filesystem".to_owned());
        if let Some(path) = &mut spec.host_path {
            path.type_.get_or_insert_default();
        }
    }

    fn prepare_for_create(volume: &mut PersistentVolume) {
        volume.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            // A hook has no clock; the object is made just now.
            last_phase_transition_time: volume.metadata.creation_timestamp.clone(),
            ..PersistentVolumeStatus::default()
        });
    }

    fn prepare_for_status_update(volume: &mut PersistentVolume, old: &PersistentVolume) {
        let before = old.status.clone().unwrap_or_default();
        let status = volume.status.get_or_insert_default();
        if status.phase == before.phase && status.last_phase_transition_time.is_none() {
            status.last_phase_transition_time = before.last_phase_transition_time;
        }
    }

    fn validate(volume: &PersistentVolume) -> FieldErrors {
        persistent_volume_validation::validate(volume)
    }

    fn validate_update(volume: &PersistentVolume, old: &PersistentVolume) -> FieldErrors {
        persistent_volume_validation::validate_change(volume, old)
    }

    fn warnings(volume: &PersistentVolume) -> Vec<String> {
        persistent_volume_validation::warnings(volume)
    }
}

fn spec_text(
    volume: &PersistentVolume,
    field: fn(&PersistentVolumeSpec) -> Option<&String>,
    missing: &str,
) -> Value {
    volume
        .spec
        .as_ref()
        .and_then(field)
        .map_or(missing, String::as_str)
        .into()
}

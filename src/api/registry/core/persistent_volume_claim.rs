//! Persistent Volume Claims of `v1`.

use crate::pod_template::validation::claim_spec;
use crate::validation::amounts::{amount, basic_amount};
use crate::validation::changes::{difference, immutable};
use crate::validation::{found, path, text};
use apimachinery::{FieldError, FieldErrors, FieldPath, Quantity};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
    TypedLocalObjectReference, TypedObjectReference,
};
use serde_json::Value;

use crate::cells;
use crate::pod_template::{default_claim_spec, default_text};
use crate::{Column, DeleteAnswer, Strategy, Subresource};

/// Objects of kind `PersistentVolumeClaim`.
#[derive(Debug)]
pub struct PersistentVolumeClaims;

impl Strategy for PersistentVolumeClaims {
    type Kind = PersistentVolumeClaim;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Status", |claim, _| {
            match &claim.metadata.deletion_timestamp {
                Some(_) => "Terminating".into(),
                None => claim
                    .status
                    .as_ref()
                    .and_then(|status| status.phase.clone())
                    .unwrap_or_default()
                    .into(),
            }
        }),
        Column::text("Volume", |claim, _| volume(claim).into()),
        Column::text("Capacity", |claim, _| match volume(claim) {
            "" => "".into(),
            _ => cells::storage(
                claim
                    .status
                    .as_ref()
                    .and_then(|status| status.capacity.as_ref()),
            )
            .into(),
        }),
        Column::text("Access Modes", |claim, _| match volume(claim) {
            "" => "".into(),
            _ => cells::access_modes(
                claim
                    .status
                    .as_ref()
                    .and_then(|status| status.access_modes.as_ref()),
            )
            .into(),
        }),
        Column::text(
            "StorageClass",
            |claim, _| match cells::storage_class_annotation(&claim.metadata) {
                Some(class) => class.into(),
                None => spec_text(claim, |spec| spec.storage_class_name.as_ref(), ""),
            },
        ),
        Column::text("VolumeAttributesClass", |claim, _| {
            spec_text(
                claim,
                |spec| spec.volume_attributes_class_name.as_ref(),
                cells::UNSET,
            )
        }),
        Column::age(),
        Column::wide_text("VolumeMode", |claim, _| {
            spec_text(claim, |spec| spec.volume_mode.as_ref(), cells::UNSET)
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["pvc"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(claim: &mut PersistentVolumeClaim) {
        default_text(&mut claim.status.get_or_insert_default().phase, "Pending");
        claim.spec.iter_mut().for_each(default_claim_spec);
    }

    fn prepare_for_create(claim: &mut PersistentVolumeClaim) {
        claim.status = Some(PersistentVolumeClaimStatus {
            phase: Some("Pending".to_owned()),
            ..PersistentVolumeClaimStatus::default()
        });
        claim
            .spec
            .iter_mut()
            .for_each(|spec| align_data_sources(spec, None));
    }

    fn prepare_for_update(claim: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        claim
            .spec
            .iter_mut()
            .for_each(|spec| align_data_sources(spec, old.spec.as_ref()));
    }

    fn validate(claim: &PersistentVolumeClaim) -> FieldErrors {
        let none = PersistentVolumeClaimSpec::default();
        found(|errors| {
            claim_spec(
                errors,
                claim.spec.as_ref().unwrap_or(&none),
                &FieldPath::new("spec"),
            );
        })
    }

    fn validate_update(claim: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> FieldErrors {
        found(|errors| stays_but_for_size(errors, claim, old))
    }

    fn validate_status_update(
        claim: &PersistentVolumeClaim,
        _old: &PersistentVolumeClaim,
    ) -> FieldErrors {
        let status = claim.status.clone().unwrap_or_default();
        let path = path(&["status", "capacity"]);
        found(|errors| {
            for (name, amount) in status.capacity.iter().flatten() {
                basic_amount(errors, amount, &path.key(name));
            }
        })
    }

    fn warnings(claim: &PersistentVolumeClaim) -> Vec<String> {
        let is_annotated = claim
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.contains_key(CLASS_ANNOTATION));
        let deprecated = is_annotated.then(|| {
            format!("metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead")
        });
        let resources = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.clone())
            .unwrap_or_default();
        let amounts = [
            ("requests", resources.requests),
            ("limits", resources.limits),
        ];
        let fractions = amounts.into_iter().filter_map(|(field, amounts)| {
            let amount = amount(amounts?.get("storage")?);
            let path = path(&["spec", "resources", field]).key("storage");
            let why = || {
                format!(
                    "{path}: fractional byte value {:?} is invalid, must be an integer",
                    amount.to_string()
                )
            };
            (!amount.is_whole()).then(why)
        });
        deprecated.into_iter().chain(fractions).collect()
    }
}

/// The name of the bound volume; empty before.
fn volume(claim: &PersistentVolumeClaim) -> &str {
    claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref())
        .unwrap_or_default()
}

fn spec_text(
    claim: &PersistentVolumeClaim,
    field: fn(&PersistentVolumeClaimSpec) -> Option<&String>,
    missing: &str,
) -> Value {
    claim
        .spec
        .as_ref()
        .and_then(field)
        .map_or(missing, String::as_str)
        .into()
}

/// `dataSource` and `dataSourceRef` say the same where both can (KEP-1495). The older field only ever knew claims and
/// snapshots; anything else in it is dropped, unless the claim has had a source before.
fn align_data_sources(
    spec: &mut PersistentVolumeClaimSpec,
    old: Option<&PersistentVolumeClaimSpec>,
) {
    let had_source =
        old.is_some_and(|old| old.data_source.is_some() || old.data_source_ref.is_some());
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
        (
            source.kind.as_str(),
            source.api_group.as_deref().unwrap_or_default()
        ),
        ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
    )
}

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

// tidy: allow(function-length): one rule after the other over the same two specs, read top to bottom
/// A claim is what its quota was counted for: it is bound once, grows once bound, and gets a class if it has none.
fn stays_but_for_size(
    errors: &mut FieldErrors,
    claim: &PersistentVolumeClaim,
    old_claim: &PersistentVolumeClaim,
) {
    let (new, old) = (
        claim.spec.clone().unwrap_or_default(),
        old_claim.spec.clone().unwrap_or_default(),
    );
    let annotation = |claim: &PersistentVolumeClaim| {
        claim
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(CLASS_ANNOTATION))
            .cloned()
    };
    let (new_class, old_class) = (annotation(claim), annotation(old_claim));
    let (mut allowed, mut before) = (new.clone(), old.clone());
    if text(&old.volume_name).is_empty() {
        before.volume_name.clone_from(&new.volume_name);
    }
    let moves_to_field = new_class.is_none()
        && old_class.is_some()
        && old.storage_class_name.is_none()
        && new.storage_class_name == old_class;
    if moves_to_field {
        allowed.storage_class_name = None;
    } else {
        let path = path(&["metadata", "annotations"]).key(CLASS_ANNOTATION);
        immutable(
            errors,
            &new_class.unwrap_or_default(),
            &old_class.clone().unwrap_or_default(),
            &path,
        );
        if old.storage_class_name.is_none()
            && old_class.is_none()
            && new.storage_class_name.is_some()
        {
            allowed.storage_class_name = None;
        }
    }
    let status = claim.status.clone().unwrap_or_default();
    if text(&status.phase) == "Bound" {
        allowed
            .volume_attributes_class_name
            .clone_from(&before.volume_attributes_class_name);
        if let Some(requests) = allowed
            .resources
            .as_mut()
            .and_then(|resources| resources.requests.as_mut())
        {
            match size_text(&before) {
                Some(size) => requests.insert("storage".to_owned(), size.clone()),
                None => requests.remove("storage"),
            };
        }
    }
    if allowed != before {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        let changes = difference(&before, &allowed);
        errors.push(FieldError::forbidden(
            &FieldPath::new("spec"),
            format!("{why}\n{changes}"),
        ));
    }
    let size = |spec: &PersistentVolumeClaimSpec| size_text(spec).map_or(Quantity::ZERO, amount);
    let old_status = old_claim.status.clone().unwrap_or_default();
    let given = old_status
        .capacity
        .as_ref()
        .and_then(|capacity| capacity.get("storage"))
        .map_or(Quantity::ZERO, amount);
    if size(&new) < size(&old) && size(&new) <= given {
        let path = path(&["spec", "resources", "requests", "storage"]);
        errors.push(FieldError::forbidden(
            &path,
            "field can not be less than status.capacity",
        ));
    }
    immutable(
        errors,
        &new.volume_mode,
        &old.volume_mode,
        &FieldPath::new("volumeMode"),
    );
    let has_applied_class = old_status.current_volume_attributes_class_name.is_some();
    if has_applied_class
        && new.volume_attributes_class_name.is_none()
        && old.volume_attributes_class_name.is_some()
    {
        let why =
            "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil";
        errors.push(FieldError::forbidden(
            &path(&["spec", "volumeAttributesClassName"]),
            why,
        ));
    }
}

fn size_text(
    spec: &PersistentVolumeClaimSpec,
) -> Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    spec.resources.as_ref()?.requests.as_ref()?.get("storage")
}

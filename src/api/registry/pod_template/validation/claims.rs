//! The spec of a claim for a volume, wherever it stands.

use apimachinery::{FieldError, FieldErrors, FieldPath, dns1123_subdomain_error};
use k8s_openapi::api::core::v1::PersistentVolumeClaimSpec;

use crate::validation::{amounts, found, names, one_of, required, selectors, text};

/// Sorted.
pub(crate) const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
pub(crate) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

pub(crate) fn claim_spec(
    errors: &mut FieldErrors,
    spec: &PersistentVolumeClaimSpec,
    path: &FieldPath,
) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.push(FieldError::required(
            &path.child("accessModes"),
            "at least 1 access mode is required",
        ));
    }
    selectors::label_selector(errors, spec.selector.as_ref(), &path.child("selector"));
    access_modes(errors, modes, &path.child("accessModes"));
    let storage = path.child("resources").key("storage");
    match spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref()?.get("storage"))
    {
        None => errors.push(FieldError::required(&storage, "")),
        Some(amount) => {
            let refused = found(|errors| amounts::positive_quantity(errors, amount, &storage));
            errors.extend(refused);
        }
    }
    let class = text(&spec.storage_class_name);
    if !class.is_empty() {
        names::dns_subdomain(errors, class, &path.child("storageClassName"));
    }
    if let Some(mode) = &spec.volume_mode {
        one_of(errors, mode, &VOLUME_MODES, &path.child("volumeMode"));
    }
    data_sources(errors, spec, path);
    let class = text(&spec.volume_attributes_class_name);
    if !class.is_empty() {
        names::dns_subdomain(errors, class, &path.child("volumeAttributesClassName"));
    }
}

pub(crate) fn access_modes(errors: &mut FieldErrors, modes: &[String], path: &FieldPath) {
    for mode in modes {
        one_of(errors, mode, &ACCESS_MODES, path);
    }
    let is_for_one_pod = |mode: &String| mode == "ReadWriteOncePod";
    let is_other = |mode: &String| ACCESS_MODES.contains(&mode.as_str()) && !is_for_one_pod(mode);
    if modes.iter().any(is_for_one_pod) && modes.iter().any(is_other) {
        errors.push(FieldError::forbidden(
            path,
            "may not use ReadWriteOncePod with other access modes",
        ));
    }
}

fn data_sources(errors: &mut FieldErrors, spec: &PersistentVolumeClaimSpec, path: &FieldPath) {
    if let Some(source) = &spec.data_source {
        data_source(
            errors,
            &source.name,
            &source.kind,
            text(&source.api_group),
            &path.child("dataSource"),
        );
    }
    let Some(reference) = &spec.data_source_ref else {
        return;
    };
    let own = path.child("dataSourceRef");
    data_source(
        errors,
        &reference.name,
        &reference.kind,
        text(&reference.api_group),
        &own,
    );
    let namespace = text(&reference.namespace);
    if !namespace.is_empty() {
        names::dns_label(errors, namespace, &own.child("namespace"));
    }
    let Some(source) = &spec.data_source else {
        return;
    };
    let shown = serde_json::json!({});
    if !namespace.is_empty() {
        let why = "may not be specified when dataSourceRef.namespace is specified";
        errors.push(FieldError::invalid(path, shown, why));
    } else if (&source.api_group, &source.kind, &source.name)
        != (&reference.api_group, &reference.kind, &reference.name)
    {
        errors.push(FieldError::invalid(path, shown, "must match dataSourceRef"));
    }
}

fn data_source(errors: &mut FieldErrors, name: &str, kind: &str, group: &str, path: &FieldPath) {
    required(errors, name, &path.child("name"));
    required(errors, kind, &path.child("kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(path, kind, why));
    }
    if !group.is_empty() {
        errors.extend(
            dns1123_subdomain_error(group)
                .map(|why| FieldError::invalid(&path.child("apiGroup"), group, why)),
        );
    }
}

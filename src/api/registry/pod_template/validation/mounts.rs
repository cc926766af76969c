//! Where a container mounts volumes, as files or as block devices.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::volume_sources::{has_backsteps, local_descending_path};
use super::volumes::KnownVolumes;
use crate::validation::{one_of, text};

pub(super) fn mounts(
    errors: &mut FieldErrors,
    container: &Container,
    volumes: &KnownVolumes,
    path: &FieldPath,
) {
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    let mut points = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let item = path.index(index);
        if mount.name.is_empty() {
            errors.push(FieldError::required(&item.child("name"), ""));
        }
        if !volumes.contains_key(&mount.name) {
            errors.push(FieldError::not_found(
                &item.child("name"),
                mount.name.as_str(),
            ));
        }
        let at = mount.mount_path.as_str();
        if at.is_empty() {
            errors.push(FieldError::required(&item.child("mountPath"), ""));
        }
        if !points.insert(at) {
            errors.push(FieldError::invalid(
                &item.child("mountPath"),
                at,
                "must be unique",
            ));
        }
        if devices.iter().any(|device| device.name == mount.name) {
            let why = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(
                &item.child("name"),
                mount.name.as_str(),
                why,
            ));
        }
        if devices.iter().any(|device| device.device_path == at) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&item.child("mountPath"), at, why));
        }
        sub_paths(errors, mount, &item, path);
        propagation(errors, mount, container, path);
        recursive_read_only(errors, mount, &path.child("recursiveReadOnly"));
    }
}

/// The paths of these errors lack the mount's place, as upstream's do.
fn sub_paths(errors: &mut FieldErrors, mount: &VolumeMount, item: &FieldPath, path: &FieldPath) {
    let (sub_path, expression) = (text(&mount.sub_path), text(&mount.sub_path_expr));
    if !sub_path.is_empty() {
        local_descending_path(errors, sub_path, &path.child("subPath"));
    }
    if !expression.is_empty() {
        if !sub_path.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(
                &item.child("subPathExpr"),
                expression,
                why,
            ));
        }
        local_descending_path(errors, expression, &path.child("subPathExpr"));
    }
}

fn propagation(
    errors: &mut FieldErrors,
    mount: &VolumeMount,
    container: &Container,
    path: &FieldPath,
) {
    let Some(propagation) = &mount.mount_propagation else {
        return;
    };
    let path = path.child("mountPropagation");
    one_of(
        errors,
        propagation,
        &["Bidirectional", "HostToContainer", "None"],
        &path,
    );
    let privileged = container
        .security_context
        .as_ref()
        .and_then(|context| context.privileged)
        == Some(true);
    if propagation == "Bidirectional" && !privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(&path, why));
    }
}

fn recursive_read_only(errors: &mut FieldErrors, mount: &VolumeMount, path: &FieldPath) {
    let Some(mode) = &mount.recursive_read_only else {
        return;
    };
    one_of(errors, mode, &["Disabled", "Enabled", "IfPossible"], path);
    if matches!(mode.as_str(), "Enabled" | "IfPossible") {
        if mount.read_only != Some(true) {
            errors.push(FieldError::forbidden(
                path,
                "may only be specified when readOnly is true",
            ));
        }
        if mount
            .mount_propagation
            .as_deref()
            .is_some_and(|propagation| propagation != "None")
        {
            let why = "may only be specified when mountPropagation is None or not specified";
            errors.push(FieldError::forbidden(path, why));
        }
    }
}

pub(super) fn devices(
    errors: &mut FieldErrors,
    container: &Container,
    volumes: &KnownVolumes,
    path: &FieldPath,
) {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let mut names = BTreeSet::new();
    let mut points = BTreeSet::new();
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        let item = path.index(index);
        let (name, at) = (device.name.as_str(), device.device_path.as_str());
        if name.is_empty() {
            errors.push(FieldError::required(&item.child("name"), ""));
        }
        if names.contains(name) {
            errors.push(FieldError::invalid(
                &item.child("name"),
                name,
                "must be unique",
            ));
        }
        match volumes.get(name) {
            None => errors.push(FieldError::not_found(&item.child("name"), name)),
            Some(is_claim) if !is_claim => errors.push(FieldError::invalid(
                &item.child("name"),
                name,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            )),
            Some(_) => {}
        }
        if at.is_empty() {
            errors.push(FieldError::required(&item.child("devicePath"), ""));
        }
        if points.contains(at) {
            errors.push(FieldError::invalid(
                &item.child("devicePath"),
                at,
                "must be unique",
            ));
        }
        if has_backsteps(at) {
            errors.push(FieldError::invalid(
                &item.child("devicePath"),
                at,
                "can not contain backsteps ('..')",
            ));
        } else {
            points.insert(at);
        }
        if mounts.iter().any(|mount| mount.name == name) {
            errors.push(FieldError::invalid(
                &item.child("name"),
                name,
                "must not already exist in volumeMounts",
            ));
        }
        if mounts.iter().any(|mount| mount.mount_path == at) {
            let why = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&item.child("devicePath"), at, why));
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

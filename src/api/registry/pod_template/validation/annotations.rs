//! Annotations of pods that once were, or mirror, fields.

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SeccompProfile};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::containers::visit_containers;
use super::volume_sources::local_descending_path;

pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
pub(crate) const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";

type Annotations = BTreeMap<String, String>;

/// Whether the pod stands for one that the kubelet runs from a file.
pub(crate) fn is_mirror(metadata: &ObjectMeta) -> bool {
    metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(MIRROR))
}

pub(crate) fn pod_annotations(
    errors: &mut FieldErrors,
    annotations: Option<&Annotations>,
    spec: &PodSpec,
    path: &FieldPath,
) {
    let Some(annotations) = annotations else {
        return;
    };
    if let Some(value) = annotations.get(MIRROR)
        && spec.node_name.as_deref().is_none_or(str::is_empty)
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(MIRROR), value.as_str(), why));
    }
    if let Some(cost) = annotations.get(DELETION_COST) {
        let is_number = cost.parse::<i32>().is_ok() && !cost.starts_with('+');
        let is_canonical = !(cost.len() > 1 && cost.starts_with('0'));
        if !is_number || !is_canonical {
            errors.push(FieldError::invalid(
                &path.key(DELETION_COST),
                cost.as_str(),
                "must be a 32bit integer",
            ));
        }
    }
    for (key, profile) in annotations {
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER_PREFIX) {
            seccomp(errors, profile, &path.child(key));
        }
    }
    for (key, profile) in annotations {
        let Some(container) = key.strip_prefix(APP_ARMOR_PREFIX) else {
            continue;
        };
        let mut exists = false;
        visit_containers(spec, &FieldPath::new("spec"), |visited, _| {
            exists |= visited.name == container;
        });
        if !exists {
            errors.push(FieldError::invalid(
                &path.key(key),
                container,
                "container not found",
            ));
        }
        let is_known = matches!(profile.as_str(), "" | "runtime/default" | "unconfined")
            || profile.starts_with("localhost/");
        if !is_known {
            let why = format!("invalid AppArmor profile name: {profile:?}");
            errors.push(FieldError::invalid(&path.key(key), profile.as_str(), why));
        }
    }
}

fn seccomp(errors: &mut FieldErrors, profile: &str, path: &FieldPath) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(file) => local_descending_path(errors, file, path),
        None => errors.push(FieldError::invalid(
            path,
            profile,
            "must be a valid seccomp profile",
        )),
    }
}

/// Where a profile is told twice, by an annotation and by a field, both must say the same.
pub(crate) fn matching_annotations(
    errors: &mut FieldErrors,
    annotations: Option<&Annotations>,
    spec: &PodSpec,
    path: &FieldPath,
) {
    let Some(annotations) = annotations else {
        return;
    };
    let context = spec.security_context.as_ref();
    if let (Some(told), Some(profile)) = (
        annotations.get(SECCOMP_POD),
        context.and_then(|context| context.seccomp_profile.as_ref()),
    ) {
        matching_seccomp(
            errors,
            told,
            profile,
            &path.child("securityContext").child("seccompProfile"),
        );
    }
    visit_containers(spec, path, |container, path| {
        let profile = container
            .security_context
            .as_ref()
            .and_then(|context| context.seccomp_profile.as_ref());
        let told = annotations.get(&format!("{SECCOMP_CONTAINER_PREFIX}{}", container.name));
        if let (Some(told), Some(profile)) = (told, profile) {
            matching_seccomp(
                errors,
                told,
                profile,
                &path.child("securityContext").child("seccompProfile"),
            );
        }
    });
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    let of_pod = context.and_then(|context| context.app_armor_profile.as_ref());
    visit_containers(spec, path, |container, path| {
        let own = container
            .security_context
            .as_ref()
            .and_then(|context| context.app_armor_profile.as_ref());
        let told = annotations.get(&format!("{APP_ARMOR_PREFIX}{}", container.name));
        if let (Some(told), Some(profile)) = (told, own.or(of_pod)) {
            matching_app_armor(
                errors,
                told,
                profile,
                &path.child("securityContext").child("appArmorProfile"),
            );
        }
    });
}

fn matching_seccomp(
    errors: &mut FieldErrors,
    told: &str,
    profile: &SeccompProfile,
    path: &FieldPath,
) {
    let type_matches = match profile.type_.as_str() {
        "Unconfined" => told == "unconfined",
        "RuntimeDefault" => matches!(told, "runtime/default" | "docker/default"),
        "Localhost" => told.starts_with("localhost/"),
        _ => true,
    };
    if !type_matches {
        errors.push(FieldError::forbidden(
            &path.child("type"),
            "seccomp type in annotation and field must match",
        ));
    } else if profile.type_ == "Localhost"
        && told.strip_prefix("localhost/") != profile.localhost_profile.as_deref()
    {
        let why = "seccomp profile in annotation and field must match";
        errors.push(FieldError::forbidden(&path.child("localhostProfile"), why));
    }
}

fn matching_app_armor(
    errors: &mut FieldErrors,
    told: &str,
    profile: &AppArmorProfile,
    path: &FieldPath,
) {
    let type_matches = match profile.type_.as_str() {
        "Unconfined" => told == "unconfined",
        "RuntimeDefault" => told == "runtime/default",
        "Localhost" => told.starts_with("localhost/"),
        _ => true,
    };
    if !type_matches {
        errors.push(FieldError::forbidden(
            &path.child("type"),
            "apparmor type in annotation and field must match",
        ));
    } else if profile.type_ == "Localhost"
        && told.strip_prefix("localhost/") != profile.localhost_profile.as_deref()
    {
        let why = "apparmor profile in annotation and field must match";
        errors.push(FieldError::forbidden(&path.child("localhostProfile"), why));
    }
}

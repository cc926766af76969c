//! Environment variables and where their values come from.

use apimachinery::{FieldError, FieldErrors, FieldPath, dns1123_subdomain_error};
use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, FileKeySelector, ObjectFieldSelector, ResourceFieldSelector,
};

use super::volume_sources::no_backsteps;
use crate::validation::{amounts, names, text};

const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTE_DIVISORS: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];
/// What a path of a field may name at all; others cannot even be converted.
const KNOWN_LABELS: [&str; 11] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
];

pub(super) fn variables(errors: &mut FieldErrors, variables: &[EnvVar], path: &FieldPath) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        if variable.name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else {
            names::environment_name(errors, &variable.name, &path.child("name"));
        }
        value_source(errors, variable, &path.child("valueFrom"));
    }
}

fn value_source(errors: &mut FieldErrors, variable: &EnvVar, path: &FieldPath) {
    let Some(source) = &variable.value_from else {
        return;
    };
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        field_reference(errors, field, &FIELDS, &path.child("fieldRef"));
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        resource_reference(errors, resource, &path.child("resourceFieldRef"));
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        key_reference(errors, &key.name, &key.key, &path.child("configMapKeyRef"));
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        key_reference(errors, &key.name, &key.key, &path.child("secretKeyRef"));
    }
    if let Some(key) = &source.file_key_ref {
        sources += 1;
        file_reference(errors, key, &path.child("fileKeyRef"));
    }
    let why = match sources {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if !text(&variable.value).is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(path, "", why));
}

fn key_reference(errors: &mut FieldErrors, name: &str, key: &str, path: &FieldPath) {
    names::dns_subdomain(errors, name, &path.child("name"));
    if key.is_empty() {
        errors.push(FieldError::required(&path.child("key"), ""));
    } else {
        names::config_key(errors, key, &path.child("key"));
    }
}

fn file_reference(errors: &mut FieldErrors, key: &FileKeySelector, path: &FieldPath) {
    if key.key.is_empty() {
        errors.push(FieldError::required(&path.child("key"), ""));
    } else {
        names::environment_name(errors, &key.key, &path.child("key"));
    }
    if key.volume_name.is_empty() {
        errors.push(FieldError::required(&path.child("volumeName"), ""));
    } else {
        names::dns_label(errors, &key.volume_name, &path.child("volumeName"));
    }
    if key.path.is_empty() {
        errors.push(FieldError::required(&path.child("path"), ""));
    } else {
        no_backsteps(errors, &key.path, &path.child("path"));
    }
}

/// A field of the pod itself, one of `allowed`.
pub(super) fn field_reference(
    errors: &mut FieldErrors,
    reference: &ObjectFieldSelector,
    allowed: &[&str],
    path: &FieldPath,
) {
    let version = text(&reference.api_version);
    if version.is_empty() {
        errors.push(FieldError::required(&path.child("apiVersion"), ""));
        return;
    }
    if reference.field_path.is_empty() {
        errors.push(FieldError::required(&path.child("fieldPath"), ""));
        return;
    }
    let (field, subscript) = subscripted(&reference.field_path);
    if let Some(why) = cannot_be_converted(version, field, subscript) {
        let why = format!("error converting fieldPath: {why}");
        errors.push(FieldError::invalid(
            &path.child("fieldPath"),
            reference.field_path.as_str(),
            why,
        ));
        return;
    }
    match (field, subscript) {
        ("metadata.annotations", Some(key)) => {
            names::qualified_name(errors, &key.to_lowercase(), path);
        }
        ("metadata.labels", Some(key)) => names::qualified_name(errors, key, path),
        (_, Some(_)) => errors.push(FieldError::invalid(
            path,
            field,
            "does not support subscript",
        )),
        (field, None) => {
            // Older manifests say spec.host.
            let field = if field == "spec.host" {
                "spec.nodeName"
            } else {
                field
            };
            if !allowed.contains(&field) {
                errors.push(FieldError::not_supported(
                    &path.child("fieldPath"),
                    field,
                    allowed,
                ));
            }
        }
    }
}

/// `path['key']`.
fn subscripted(path: &str) -> (&str, Option<&str>) {
    match path
        .strip_suffix("']")
        .and_then(|path| path.split_once("['"))
    {
        Some((field, key)) if !field.is_empty() => (field, Some(key)),
        _ => (path, None),
    }
}

fn cannot_be_converted(version: &str, field: &str, subscript: Option<&str>) -> Option<String> {
    if version != "v1" {
        return Some(format!("unsupported pod version: {version}"));
    }
    if subscript.is_some() {
        let is_map = matches!(field, "metadata.annotations" | "metadata.labels");
        return (!is_map).then(|| format!("field label does not support subscript: {field}"));
    }
    let is_known = KNOWN_LABELS.contains(&field)
        || matches!(
            field,
            "status.hostIPs" | "status.podIP" | "status.podIPs" | "spec.host"
        );
    (!is_known).then(|| format!("field label not supported: {field}"))
}

pub(super) fn resource_reference(
    errors: &mut FieldErrors,
    reference: &ResourceFieldSelector,
    path: &FieldPath,
) {
    let is_known =
        RESOURCES.contains(&reference.resource.as_str()) || is_huge_pages(&reference.resource);
    if reference.resource.is_empty() {
        errors.push(FieldError::required(&path.child("resource"), ""));
    } else if !is_known {
        errors.push(FieldError::not_supported(
            &path.child("resource"),
            reference.resource.as_str(),
            &RESOURCES,
        ));
    }
    divisor(errors, reference, path);
}

/// In a volume, the container must be named.
pub(super) fn resource_reference_in_volume(
    errors: &mut FieldErrors,
    reference: &ResourceFieldSelector,
    path: &FieldPath,
) {
    if text(&reference.container_name).is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
        divisor(errors, reference, path);
    } else {
        resource_reference(errors, reference, path);
    }
}

fn is_huge_pages(resource: &str) -> bool {
    resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-")
}

fn divisor(errors: &mut FieldErrors, reference: &ResourceFieldSelector, path: &FieldPath) {
    let Some(divisor) = reference
        .divisor
        .as_ref()
        .filter(|divisor| !amounts::amount(divisor).is_zero())
    else {
        return;
    };
    let shown = amounts::shown(divisor);
    let is_byte_divisor = BYTE_DIVISORS.contains(&shown.as_str());
    let bytes = |what: &str| {
        format!(
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the {what} \
             resource"
        )
    };
    let why = match reference.resource.as_str() {
        "limits.cpu" | "requests.cpu" if !matches!(shown.as_str(), "1m" | "1") => {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        }
        "limits.memory" | "requests.memory" if !is_byte_divisor => bytes("memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" if !is_byte_divisor => {
            bytes("local ephemeral storage")
        }
        resource if is_huge_pages(resource) && !is_byte_divisor => bytes("hugepages"),
        _ => return,
    };
    errors.push(FieldError::invalid(
        &path.child("divisor"),
        reference.resource.as_str(),
        why,
    ));
}

pub(super) fn sources(errors: &mut FieldErrors, sources: &[EnvFromSource], path: &FieldPath) {
    for (index, source) in sources.iter().enumerate() {
        let item = path.index(index);
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            names::environment_name(errors, prefix, &item.child("prefix"));
        }
        let named = [
            (
                source.config_map_ref.as_ref().map(|map| map.name.as_str()),
                "configMapRef",
            ),
            (
                source
                    .secret_ref
                    .as_ref()
                    .map(|secret| secret.name.as_str()),
                "secretRef",
            ),
        ];
        for (name, field) in named {
            match name {
                Some("") => errors.push(FieldError::required(&item.child(field).child("name"), "")),
                Some(name) => {
                    let why = dns1123_subdomain_error(name);
                    errors.extend(why.map(|why| {
                        FieldError::invalid(&item.child(field).child("name"), name, why)
                    }));
                }
                None => {}
            }
        }
        match named.iter().filter(|(name, _)| name.is_some()).count() {
            0 => errors.push(FieldError::invalid(
                path,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            1 => {}
            _ => errors.push(FieldError::invalid(
                path,
                "",
                "may not have more than one field specified at a time",
            )),
        }
    }
}

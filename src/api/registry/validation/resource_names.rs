//! Names of resources: which are standard, native, extended, whole numbers.

use apimachinery::{FieldError, FieldErrors, FieldPath, qualified_name_errors};

const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const COMPUTE: [&str; 9] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
const COUNTS: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

pub(crate) fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_huge_pages(name: &str) -> bool {
    is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

/// Without a prefix, or with one of `kubernetes.io`.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && qualified_name_errors(&format!("requests.{name}")).is_empty()
}

/// Whether requests may differ from limits.
pub(crate) fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// Whether an amount of it is a whole number.
pub(crate) fn is_counted(name: &str) -> bool {
    COUNTS.contains(&name) || is_extended(name)
}

fn is_standard(name: &str) -> bool {
    COMPUTE.contains(&name)
        || COUNTS.contains(&name)
        || matches!(name, "requests.storage" | "storage")
        || is_quota_huge_pages(name)
}

/// Whether quotas know it without a prefix.
pub(crate) fn is_standard_in_quota(name: &str) -> bool {
    COMPUTE.contains(&name)
        || COUNTS.contains(&name)
        || name == "requests.storage"
        || is_quota_huge_pages(name)
}

pub(crate) fn any(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    let refused = qualified_name_errors(name);
    if !refused.is_empty() {
        errors.extend(
            refused
                .into_iter()
                .map(|why| FieldError::invalid(path, name, why)),
        );
    } else if !name.contains('/') && !is_standard(name) {
        errors.push(FieldError::invalid(
            path,
            name,
            "must be a standard resource type or fully qualified",
        ));
    }
}

pub(crate) fn of_container(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    any(errors, name, path);
    if !name.contains('/') {
        if !CONTAINER.contains(&name) && !is_huge_pages(name) {
            errors.push(FieldError::invalid(
                path,
                name,
                "must be a standard resource for containers",
            ));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(
            path,
            name,
            "doesn't follow extended resource name standard",
        ));
    }
}

pub(crate) fn of_pod(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    let before = errors.len();
    any(errors, name, path);
    if errors.len() == before && !matches!(name, "cpu" | "memory") && !is_huge_pages(name) {
        errors.push(FieldError::not_supported(
            path,
            name,
            &["cpu", "hugepages-", "memory"],
        ));
    }
}

pub(crate) fn of_quota(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    any(errors, name, path);
    if !name.contains('/') && !is_standard_in_quota(name) {
        errors.push(FieldError::invalid(
            path,
            name,
            "must be a standard resource for quota",
        ));
    }
}

//! `/resize`: how much cpu and memory the containers of a running pod have (KEP-1287).

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use semantics::qos::qos_class;
use semantics::resources::{has_pod_level_resources, is_sidecar};

use super::pod_validation;
use crate::validation::text;

type Amounts = Option<BTreeMap<String, Quantity>>;

const RESIZABLE: [&str; 2] = ["cpu", "memory"];

pub(super) fn validate_resize(pod: &Pod, old: &Pod) -> FieldErrors {
    let mut errors = pod_validation::validate(pod);
    let empty = PodSpec::default();
    let (spec, before) = (
        pod.spec.as_ref().unwrap_or(&empty),
        old.spec.as_ref().unwrap_or(&empty),
    );
    let refused =
        |why: &str| FieldErrors::from_iter([FieldError::forbidden(&FieldPath::root(), why)]);
    let annotations = old.metadata.annotations.as_ref();
    if annotations
        .is_some_and(|annotations| annotations.contains_key("kubernetes.io/config.mirror"))
    {
        return refused("static pods cannot be resized");
    }
    if before.os.as_ref().is_some_and(|os| os.name == "windows") {
        return refused("windows pods cannot be resized");
    }
    let path = FieldPath::new("spec");
    if qos_class(before) != qos_class(spec) {
        let class = pod
            .status
            .as_ref()
            .map_or("", |status| text(&status.qos_class));
        errors.push(FieldError::invalid(
            &path,
            class,
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    if !node_can_resize(old) {
        errors.push(FieldError::forbidden(
            &path,
            "Pod running on node without support for resize",
        ));
    }
    let mut kept = spec.clone();
    if has_pod_level_resources(before.resources.as_ref())
        || has_pod_level_resources(spec.resources.as_ref())
    {
        pod_level(&mut errors, &mut kept, before, &path);
    }
    if same_containers(&mut errors, spec, before, &path) {
        containers(&mut errors, &mut kept, before, &path);
        if errors.is_empty() && kept != *before {
            errors.push(FieldError::forbidden(
                &path,
                "only cpu and memory resources are mutable",
            ));
        }
    }
    errors
}

/// A kubelet that can resize tells what containers have.
fn node_can_resize(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let mut running = statuses.filter(|status| {
        status
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some())
    });
    running
        .next()
        .is_none_or(|status| status.resources.is_some())
}

fn removed(new: &Amounts, old: &Amounts) -> bool {
    let has = |name: &String| new.as_ref().is_some_and(|new| new.contains_key(name));
    old.iter().flatten().any(|(name, _)| !has(name))
}

fn pod_level(errors: &mut FieldErrors, kept: &mut PodSpec, old: &PodSpec, path: &FieldPath) {
    let own = path.child("resources");
    if old.resources.is_some() && kept.resources.is_none() {
        errors.push(FieldError::forbidden(
            &own,
            "pod-level resources cannot be removed",
        ));
        return;
    }
    if let (Some(new), Some(old)) = (&kept.resources, &old.resources) {
        if removed(&new.requests, &old.requests) {
            let why = "pod-level resource requests cannot be removed";
            errors.push(FieldError::forbidden(&own.child("requests"), why));
        }
        if removed(&new.limits, &old.limits) {
            let why = "pod-level resource limits cannot be removed";
            errors.push(FieldError::forbidden(&own.child("limits"), why));
        }
    }
    keep_resizable(&mut kept.resources, old.resources.as_ref());
    if kept.resources != old.resources {
        errors.push(FieldError::forbidden(
            path,
            "only cpu and memory resources are mutable at pod-level",
        ));
    }
}

/// Takes what may change from the old pod, so that what is left must be equal.
fn keep_resizable(
    resources: &mut Option<ResourceRequirements>,
    old: Option<&ResourceRequirements>,
) {
    let before = old.cloned().unwrap_or_default();
    let new = resources.get_or_insert_default();
    for (list, old) in [
        (&mut new.requests, &before.requests),
        (&mut new.limits, &before.limits),
    ] {
        let mut merged = list.take().unwrap_or_default();
        for name in RESIZABLE {
            merged.remove(name);
            if let Some(amount) = old.as_ref().and_then(|old| old.get(name)) {
                merged.insert(name.to_owned(), amount.clone());
            }
        }
        *list = Some(merged).filter(|merged| !merged.is_empty() || old.is_some());
    }
    if *new == ResourceRequirements::default() && old.is_none() {
        *resources = None;
    }
}

fn same_containers(
    errors: &mut FieldErrors,
    spec: &PodSpec,
    old: &PodSpec,
    path: &FieldPath,
) -> bool {
    let before = errors.len();
    for (new, old, field) in [
        (
            spec.containers.as_slice(),
            old.containers.as_slice(),
            "containers",
        ),
        (
            spec.init_containers.as_deref().unwrap_or_default(),
            old.init_containers.as_deref().unwrap_or_default(),
            "initContainers",
        ),
    ] {
        let path = path.child(field);
        if new.len() != old.len() {
            let why = format!("{field} may not be added or removed on resize");
            errors.push(FieldError::forbidden(&path, why));
            continue;
        }
        for (index, _) in new
            .iter()
            .zip(old)
            .enumerate()
            .filter(|(_, (new, old))| new.name != old.name)
        {
            let why = format!("{field} may not be renamed or reordered on resize");
            errors.push(FieldError::forbidden(&path.index(index).child("name"), why));
        }
    }
    errors.len() == before
}

fn containers(errors: &mut FieldErrors, kept: &mut PodSpec, old: &PodSpec, path: &FieldPath) {
    let old_init = old.init_containers.as_deref().unwrap_or_default();
    let init = kept.init_containers.as_deref_mut().unwrap_or_default();
    for (index, (new, old)) in init.iter().zip(old_init).enumerate() {
        nothing_removed(
            errors,
            new,
            old,
            &path.child("initContainers").index(index).child("resources"),
        );
    }
    for (index, (new, old)) in kept.containers.iter().zip(&old.containers).enumerate() {
        nothing_removed(
            errors,
            new,
            old,
            &path.child("containers").index(index).child("resources"),
        );
    }
    for (new, old) in kept.containers.iter_mut().zip(&old.containers) {
        keep_resizable(&mut new.resources, old.resources.as_ref());
        if new != old {
            errors.push(FieldError::forbidden(
                path,
                "only cpu and memory resources are mutable",
            ));
        }
    }
    for (index, (new, old)) in init.iter_mut().zip(old_init).enumerate() {
        let path = path.child("initContainers").index(index);
        let is_changed = new != old;
        keep_resizable(&mut new.resources, old.resources.as_ref());
        if new != old {
            let why = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.push(FieldError::forbidden(&path, why));
        }
        let restarts = new
            .resize_policy
            .iter()
            .flatten()
            .filter(|policy| policy.restart_policy == "RestartContainer");
        for _policy in restarts.filter(|_| is_changed && !is_sidecar(new)) {
            let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.push(FieldError::forbidden(&path, why));
        }
    }
}

fn nothing_removed(errors: &mut FieldErrors, new: &Container, old: &Container, path: &FieldPath) {
    let (new, old) = (
        new.resources.clone().unwrap_or_default(),
        old.resources.clone().unwrap_or_default(),
    );
    if removed(&new.requests, &old.requests) {
        errors.push(FieldError::forbidden(
            &path.child("requests"),
            "resource requests cannot be removed",
        ));
    }
    if removed(&new.limits, &old.limits) {
        errors.push(FieldError::forbidden(
            &path.child("limits"),
            "resource limits cannot be removed",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cpu_and_memory_change_and_nothing_else_does() {
        let pod = |container: serde_json::Value| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"name": "a"}, "spec": {"containers": [container]}}),
            )
            .expect("a pod")
        };
        let old = pod(json!({"name": "a", "resources": {"requests": {"cpu": "1"}}}));
        let texts = |new: &Pod| -> Vec<String> {
            let errors = validate_resize(new, &old);
            errors
                .iter()
                .filter(|error| error.detail.contains("resources"))
                .map(|error| error.detail.clone())
                .collect()
        };
        assert!(
            texts(&pod(
                json!({"name": "a", "resources": {"requests": {"cpu": "2"}}})
            ))
            .is_empty()
        );
        assert_eq!(
            texts(&pod(
                json!({"name": "a", "image": "x", "resources": {"requests": {"cpu": "2"}}})
            ))
            .len(),
            1
        );
    }
}

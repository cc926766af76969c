//! What may change in a pod once it exists: very little.

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeAffinity, NodeSelectorTerm, Pod, PodSpec,
};

use super::pod_validation;
use crate::pod_template::validation::untrimmed_image;
use crate::validation::changes::{difference, json};
use crate::validation::numbers::outside;
use crate::validation::{found, path, text};

const MIRROR: &str = "kubernetes.io/config.mirror";
const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set \
    to 1 if it was previously negative)";

pub(super) fn validate_update(pod: &Pod, old: &Pod) -> FieldErrors {
    let empty = PodSpec::default();
    let (spec, before) = (
        pod.spec.as_ref().unwrap_or(&empty),
        old.spec.as_ref().unwrap_or(&empty),
    );
    found(|errors| {
        annotations(errors, pod, old);
        spec_update(errors, spec, before, &FieldPath::new("spec"));
    })
}

/// Annotations that mean something to the kubelet do not change.
pub(super) fn annotations(errors: &mut FieldErrors, pod: &Pod, old: &Pod) {
    let path = path(&["metadata", "annotations"]);
    let empty = BTreeMap::new();
    let new = pod.metadata.annotations.as_ref().unwrap_or(&empty);
    let before = old.metadata.annotations.as_ref().unwrap_or(&empty);
    for key in before
        .iter()
        .filter(|(key, value)| new.get(*key) != Some(value))
        .map(|(key, _)| key)
    {
        if key.starts_with(APP_ARMOR_PREFIX) {
            errors.push(FieldError::forbidden(
                &path.key(key),
                "may not remove or update AppArmor annotations",
            ));
        }
        if key == MIRROR {
            errors.push(FieldError::forbidden(
                &path.key(key),
                "may not remove or update mirror pod annotation",
            ));
        }
    }
    for key in new.keys().filter(|key| !before.contains_key(*key)) {
        if key.starts_with(APP_ARMOR_PREFIX) {
            errors.push(FieldError::forbidden(
                &path.key(key),
                "may not add AppArmor annotations",
            ));
        }
        if key == MIRROR {
            errors.push(FieldError::forbidden(
                &path.key(key),
                "may not add mirror pod annotation",
            ));
        }
    }
}

fn spec_update(errors: &mut FieldErrors, spec: &PodSpec, old: &PodSpec, path: &FieldPath) {
    let (init, old_init) = (
        spec.init_containers.as_deref().unwrap_or_default(),
        old.init_containers.as_deref().unwrap_or_default(),
    );
    if !containers(
        errors,
        &spec.containers,
        &old.containers,
        &path.child("containers"),
    ) || !containers(errors, init, old_init, &path.child("initContainers"))
        || !active_deadline(errors, spec, old, &path.child("activeDeadlineSeconds"))
    {
        return;
    }
    tolerations(errors, spec, old, &path.child("tolerations"));
    scheduling_gates(errors, spec, old, &path.child("schedulingGates"));
    if spec == old {
        return;
    }
    let mut kept = spec.clone();
    keep_images(&mut kept.containers, &old.containers);
    keep_images(
        kept.init_containers.as_deref_mut().unwrap_or_default(),
        old_init,
    );
    kept.active_deadline_seconds = old.active_deadline_seconds;
    kept.scheduling_gates.clone_from(&old.scheduling_gates);
    kept.tolerations.clone_from(&old.tolerations);
    let was_negative = old
        .termination_grace_period_seconds
        .is_some_and(|seconds| seconds < 0);
    if was_negative && kept.termination_grace_period_seconds == Some(1) {
        kept.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if old
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty())
    {
        gated(errors, &mut kept, old, path);
    }
    if kept != *old {
        let changes = difference(old, &kept);
        let why = format!("pod updates may not change fields other than {UPDATABLE}\n{changes}");
        errors.push(FieldError::forbidden(path, why));
    }
}

/// False if the lists cannot be compared one by one.
fn containers(
    errors: &mut FieldErrors,
    containers: &[Container],
    old: &[Container],
    path: &FieldPath,
) -> bool {
    if containers.len() != old.len() {
        errors.push(FieldError::forbidden(
            path,
            "pod updates may not add or remove containers",
        ));
        return false;
    }
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        if text(&container.image).is_empty() {
            errors.push(FieldError::required(&path.child("image"), ""));
        }
        untrimmed_image(errors, container, &path);
    }
    true
}

fn keep_images(containers: &mut [Container], old: &[Container]) {
    for (container, old) in containers.iter_mut().zip(old) {
        container.image.clone_from(&old.image);
    }
}

/// From none to some, or to less.
fn active_deadline(
    errors: &mut FieldErrors,
    spec: &PodSpec,
    old: &PodSpec,
    path: &FieldPath,
) -> bool {
    match (spec.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.push(FieldError::invalid(
                path,
                seconds,
                outside(0, i64::from(i32::MAX)),
            ));
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errors.push(FieldError::invalid(
                path,
                seconds,
                "must be less than or equal to previous value",
            ));
            false
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, serde_json::Value::Null, why));
            true
        }
        _ => true,
    }
}

/// Old ones stay as they are, but for how long they hold.
fn tolerations(errors: &mut FieldErrors, spec: &PodSpec, old: &PodSpec, path: &FieldPath) {
    let new = spec.tolerations.as_deref().unwrap_or_default();
    for toleration in old.tolerations.iter().flatten() {
        let stays = new.iter().any(|new| {
            let mut same = toleration.clone();
            same.toleration_seconds = new.toleration_seconds;
            same == *new
        });
        if !stays {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            errors.push(FieldError::forbidden(path, why));
            return;
        }
    }
}

fn scheduling_gates(errors: &mut FieldErrors, spec: &PodSpec, old: &PodSpec, path: &FieldPath) {
    let before = old.scheduling_gates.as_deref().unwrap_or_default();
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        if !before.contains(gate) {
            let why = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.name
            );
            errors.push(FieldError::forbidden(&path.index(index).child("name"), why));
        }
    }
}

/// A pod that waits at a gate may be told more about where to go (KEP-3838).
fn gated(errors: &mut FieldErrors, kept: &mut PodSpec, old: &PodSpec, path: &FieldPath) {
    if kept.node_selector != old.node_selector {
        let new = kept.node_selector.clone().unwrap_or_default();
        let changed = old
            .node_selector
            .iter()
            .flatten()
            .any(|(key, value)| new.get(key) != Some(value));
        if changed {
            let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(
                &path.child("nodeSelector"),
                json(&new),
                why,
            ));
        }
        kept.node_selector.clone_from(&old.node_selector);
    }
    let before = old
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.clone());
    let new = kept
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.clone());
    if before == new {
        return;
    }
    node_affinity(
        errors,
        new.as_ref(),
        before.as_ref(),
        &path.child("affinity").child("nodeAffinity"),
    );
    let affinity = kept.affinity.get_or_insert_default();
    affinity.node_affinity = before;
    if *affinity == Affinity::default() && old.affinity.is_none() {
        kept.affinity = None;
    }
}

fn node_affinity(
    errors: &mut FieldErrors,
    new: Option<&NodeAffinity>,
    old: Option<&NodeAffinity>,
    path: &FieldPath,
) {
    let terms = |affinity: Option<&NodeAffinity>| -> Vec<NodeSelectorTerm> {
        let required = affinity.and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        required
            .map(|selector| selector.node_selector_terms.clone())
            .unwrap_or_default()
    };
    let (new, old) = (terms(new), terms(old));
    let path = path
        .child("requiredDuringSchedulingIgnoredDuringExecution")
        .child("nodeSelectorTerms");
    if old.is_empty() {
        return;
    }
    if old.len() != new.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(&path, json(&new), why));
        return;
    }
    for (index, (new, old)) in new.iter().zip(&old).enumerate() {
        if !only_adds(new, old) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(&path.index(index), json(new), why));
        }
    }
}

fn only_adds(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> bool {
    let expressions = (
        new.match_expressions.as_deref().unwrap_or_default(),
        old.match_expressions.as_deref().unwrap_or_default(),
    );
    let fields = (
        new.match_fields.as_deref().unwrap_or_default(),
        old.match_fields.as_deref().unwrap_or_default(),
    );
    if expressions.1.is_empty() && fields.1.is_empty() {
        return expressions.0.is_empty() && fields.0.is_empty();
    }
    expressions.0.starts_with(expressions.1) && fields.0.starts_with(fields.1)
}

/// `/ephemeralcontainers`: containers come and never go.
pub(super) fn validate_ephemeral_containers(pod: &Pod, old: &Pod) -> FieldErrors {
    let is_static = old
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(MIRROR));
    if is_static {
        return found(|errors| {
            let why = "static pods do not support ephemeral containers";
            errors.push(FieldError::forbidden(&FieldPath::root(), why));
        });
    }
    let list = |pod: &Pod| {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.ephemeral_containers.clone())
            .unwrap_or_default()
    };
    let new = list(pod);
    let path = path(&["spec", "ephemeralContainers"]);
    let mut errors = pod_validation::validate(pod);
    annotations(&mut errors, pod, old);
    for kept in list(old) {
        let name = &kept.name;
        match new.iter().rfind(|container| container.name == *name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(&path, why));
            }
            Some(container) if *container != kept => {
                let changes = difference(&kept, container);
                let why =
                    format!("existing ephemeral containers {name:?} may not be changed\n{changes}");
                errors.push(FieldError::forbidden(&path, why));
            }
            Some(_) => {}
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).expect("a pod")
    }

    fn texts(new: serde_json::Value, old: serde_json::Value) -> Vec<String> {
        validate_update(&pod(new), &pod(old))
            .iter()
            .map(std::string::ToString::to_string)
            .collect()
    }

    #[test]
    fn an_image_may_change_and_a_command_may_not() {
        let old = json!({"containers": [{"name": "a", "image": "x:1"}]});
        assert!(
            texts(
                json!({"containers": [{"name": "a", "image": "x:2"}]}),
                old.clone()
            )
            .is_empty()
        );
        let errors = texts(
            json!({"containers": [{"name": "a", "image": "x:1", "command": ["c"]}]}),
            old,
        );
        assert!(errors[0].starts_with(
            "spec: Forbidden: pod updates may not change fields other than `spec.containers"
        ));
    }

    #[test]
    fn tolerations_are_only_added_and_gates_only_removed() {
        let old = json!({"containers": [], "tolerations": [{"key": "k", "operator": "Exists"}], "schedulingGates": [{"name": "g"}]});
        let fewer = json!({"containers": [], "tolerations": [{"key": "k", "operator": "Exists"}, {"key": "l"}]});
        assert!(texts(fewer, old.clone()).is_empty());
        assert_eq!(
            texts(
                json!({"containers": [], "schedulingGates": [{"name": "h"}]}),
                old
            ),
            [
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'h'",
            ]
        );
    }
}

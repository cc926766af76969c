//! Which nodes and which other pods a pod wants near, or far.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, PodAffinityTerm, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::validation::selectors::{self, Values};
use crate::validation::{names, one_of};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(errors: &mut FieldErrors, affinity: &Affinity, path: &FieldPath) {
    if let Some(nodes) = &affinity.node_affinity {
        node_affinity(errors, nodes, &path.child("nodeAffinity"));
    }
    if let Some(together) = &affinity.pod_affinity {
        let path = path.child("podAffinity");
        let required = together
            .required_during_scheduling_ignored_during_execution
            .as_deref();
        let preferred = together
            .preferred_during_scheduling_ignored_during_execution
            .as_deref();
        pod_terms(
            errors,
            required.unwrap_or_default(),
            preferred.unwrap_or_default(),
            &path,
        );
    }
    if let Some(apart) = &affinity.pod_anti_affinity {
        let path = path.child("podAntiAffinity");
        let required = apart
            .required_during_scheduling_ignored_during_execution
            .as_deref();
        let preferred = apart
            .preferred_during_scheduling_ignored_during_execution
            .as_deref();
        pod_terms(
            errors,
            required.unwrap_or_default(),
            preferred.unwrap_or_default(),
            &path,
        );
    }
}

fn node_affinity(errors: &mut FieldErrors, affinity: &NodeAffinity, path: &FieldPath) {
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        selectors::node_selector(errors, required, &path.child(REQUIRED));
    }
    for (index, term) in affinity
        .preferred_during_scheduling_ignored_during_execution
        .iter()
        .flatten()
        .enumerate()
    {
        let path = path.child(PREFERRED).index(index);
        weight(errors, term.weight, &path);
        selectors::node_selector_term(
            errors,
            &term.preference,
            Values::Any,
            &path.child("preference"),
        );
    }
}

fn weight(errors: &mut FieldErrors, weight: i32, path: &FieldPath) {
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(
            &path.child("weight"),
            weight,
            "must be in the range 1-100",
        ));
    }
}

fn pod_terms(
    errors: &mut FieldErrors,
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
    path: &FieldPath,
) {
    for (index, term) in required.iter().enumerate() {
        pod_term(errors, term, &path.child(REQUIRED).index(index));
    }
    for (index, term) in preferred.iter().enumerate() {
        let path = path.child(PREFERRED).index(index);
        weight(errors, term.weight, &path);
        pod_term(
            errors,
            &term.pod_affinity_term,
            &path.child("podAffinityTerm"),
        );
    }
}

fn pod_term(errors: &mut FieldErrors, term: &PodAffinityTerm, path: &FieldPath) {
    selectors::label_selector(
        errors,
        term.label_selector.as_ref(),
        &path.child("labelSelector"),
    );
    selectors::label_selector(
        errors,
        term.namespace_selector.as_ref(),
        &path.child("namespaceSelector"),
    );
    for namespace in term.namespaces.iter().flatten() {
        names::dns_label(errors, namespace, &path.child("namespace"));
    }
    let keys = term.match_label_keys.as_deref().unwrap_or_default();
    let mismatched = term.mismatch_label_keys.as_deref().unwrap_or_default();
    label_keys(errors, keys, mismatched, term.label_selector.as_ref(), path);
    if term.topology_key.is_empty() {
        errors.push(FieldError::required(
            &path.child("topologyKey"),
            "can not be empty",
        ));
    }
    names::qualified_name(errors, &term.topology_key, &path.child("topologyKey"));
}

/// Keys whose values are taken from the pod's own labels. On creation they already stand in the selector, each once.
pub(super) fn label_keys(
    errors: &mut FieldErrors,
    matched: &[String],
    mismatched: &[String],
    selector: Option<&LabelSelector>,
    path: &FieldPath,
) {
    for (keys, field) in [
        (matched, "matchLabelKeys"),
        (mismatched, "mismatchLabelKeys"),
    ] {
        let path = path.child(field);
        if !keys.is_empty() && selector.is_none() {
            errors.push(FieldError::forbidden(
                &path,
                "must not be specified when labelSelector is not set",
            ));
            continue;
        }
        for (index, key) in keys.iter().enumerate() {
            names::qualified_name(errors, key, &path.index(index));
        }
    }
    if let Some(selector) = selector {
        let mut seen: BTreeSet<&str> = selector
            .match_labels
            .iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .collect();
        for requirement in selector.match_expressions.iter().flatten() {
            let at = matched.iter().rposition(|key| *key == requirement.key);
            if let Some(index) = at.filter(|_| seen.contains(requirement.key.as_str())) {
                let why = "exists in both matchLabelKeys and labelSelector";
                errors.push(FieldError::invalid(
                    &path.index(index),
                    requirement.key.as_str(),
                    why,
                ));
            }
            seen.insert(&requirement.key);
        }
    }
    for (index, key) in matched
        .iter()
        .enumerate()
        .filter(|(_, key)| mismatched.contains(key))
    {
        let why = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(FieldError::invalid(
            &path.child("matchLabelKeys").index(index),
            key.as_str(),
            why,
        ));
    }
}

/// What a taint does; the empty effect of a toleration is the caller's.
pub(crate) fn taint_effect(errors: &mut FieldErrors, effect: &str, path: &FieldPath) {
    one_of(
        errors,
        effect,
        &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        path,
    );
}

//! Selectors of labels and of nodes.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath, dns1123_subdomain_error};
use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, TopologySelectorTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::names;

/// What a selector's values may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Values that a label can have.
    Labels,
    /// Anything: where a wrong value only makes a wish that cannot be granted.
    Any,
}

pub(crate) fn label_selector(
    errors: &mut FieldErrors,
    selector: Option<&LabelSelector>,
    path: &FieldPath,
) {
    let Some(selector) = selector else { return };
    names::labels(
        errors,
        selector.match_labels.as_ref(),
        &path.child("matchLabels"),
    );
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = requirement.values.as_deref().unwrap_or_default();
        set_operator(errors, &requirement.operator, values, &path);
        names::qualified_name(errors, &requirement.key, &path.child("key"));
        for (index, value) in values.iter().enumerate() {
            names::label_value(errors, value, &path.child("values").index(index));
        }
    }
}

fn set_operator(errors: &mut FieldErrors, operator: &str, values: &[String], path: &FieldPath) {
    match operator {
        "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
            &path.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
            &path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errors.push(FieldError::invalid(
            &path.child("operator"),
            operator,
            "not a valid selector operator",
        )),
    }
}

/// Whether a selector selects everything.
pub(crate) fn is_empty(selector: &LabelSelector) -> bool {
    selector
        .match_labels
        .as_ref()
        .is_none_or(std::collections::BTreeMap::is_empty)
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty)
}

pub(crate) fn node_selector(errors: &mut FieldErrors, selector: &NodeSelector, path: &FieldPath) {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.push(FieldError::required(
            &path,
            "must have at least one node selector term",
        ));
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        node_selector_term(errors, term, Values::Labels, &path.index(index));
    }
}

pub(crate) fn node_selector_term(
    errors: &mut FieldErrors,
    term: &NodeSelectorTerm,
    values: Values,
    path: &FieldPath,
) {
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        node_requirement(
            errors,
            requirement,
            values,
            &path.child("matchExpressions").index(index),
        );
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        node_field_requirement(errors, requirement, &path.child("matchFields").index(index));
    }
}

fn node_requirement(
    errors: &mut FieldErrors,
    requirement: &NodeSelectorRequirement,
    kind: Values,
    path: &FieldPath,
) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "Gt" | "Lt" => {
            if values.len() != 1 {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(FieldError::required(&path.child("values"), why));
            }
        }
        operator => set_operator(errors, operator, values, path),
    }
    names::qualified_name(errors, &requirement.key, &path.child("key"));
    if kind == Values::Labels {
        for (index, value) in values.iter().enumerate() {
            names::label_value(errors, value, &path.child("values").index(index));
        }
    }
}

fn node_field_requirement(
    errors: &mut FieldErrors,
    requirement: &NodeSelectorRequirement,
    path: &FieldPath,
) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" => {
            if values.len() != 1 {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(FieldError::required(&path.child("values"), why));
            }
        }
        operator => {
            errors.push(FieldError::invalid(
                &path.child("operator"),
                operator,
                "not a valid selector operator",
            ));
        }
    }
    if requirement.key != "metadata.name" {
        let why = "not a valid field selector key";
        errors.push(FieldError::invalid(
            &path.child("key"),
            requirement.key.as_str(),
            why,
        ));
        return;
    }
    for (index, value) in values.iter().enumerate() {
        let why = dns1123_subdomain_error(value);
        errors.extend(why.map(|why| {
            FieldError::invalid(&path.child("values").index(index), value.as_str(), why)
        }));
    }
}

/// Terms of storage classes. Returns nothing; two terms that say the same are the caller's to find.
pub(crate) fn topology_term(
    errors: &mut FieldErrors,
    term: &TopologySelectorTerm,
    path: &FieldPath,
) {
    let path = path.child("matchLabelExpressions");
    let mut keys = BTreeSet::new();
    for (index, requirement) in term.match_label_expressions.iter().flatten().enumerate() {
        let path = path.index(index);
        let values_path = path.child("values");
        if requirement.values.is_empty() {
            errors.push(FieldError::required(&values_path, ""));
        }
        let mut values = BTreeSet::new();
        for (index, value) in requirement.values.iter().enumerate() {
            if !values.insert(value) {
                errors.push(FieldError::duplicate(
                    &values_path.index(index),
                    value.as_str(),
                ));
            }
        }
        names::qualified_name(errors, &requirement.key, &path.child("key"));
        if !keys.insert(&requirement.key) {
            errors.push(FieldError::duplicate(
                &path.child("key"),
                requirement.key.as_str(),
            ));
        }
    }
}

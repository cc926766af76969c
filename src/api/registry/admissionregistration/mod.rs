//! Kinds of the group `admissionregistration`, one file each.

pub mod mutating_admission_policy;
pub mod mutating_admission_policy_binding;
mod policies;
pub mod validating_admission_policy;
pub mod validating_admission_policy_binding;
mod validation;
pub(crate) mod webhook_configurations;

use k8s_openapi::api::admissionregistration::v1::{MatchResources, ParamKind, ParamRef};

use crate::cells;

/// Which requests a policy or binding is for, with everything left out filled in.
fn default_match(resources: &mut MatchResources) {
    resources
        .match_policy
        .get_or_insert_with(|| "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    for rule in resources
        .resource_rules
        .iter_mut()
        .flatten()
        .chain(resources.exclude_resource_rules.iter_mut().flatten())
    {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
}

/// The kind of a policy's parameters, as a cell shows it.
fn param_kind(kind: Option<&ParamKind>) -> String {
    kind.map_or_else(
        || cells::UNSET.to_owned(),
        |kind| {
            format!(
                "{}/{}",
                kind.api_version.as_deref().unwrap_or_default(),
                kind.kind.as_deref().unwrap_or_default()
            )
        },
    )
}

/// What a binding's parameters are. Whether the kind has namespaces is not known here, so a name alone stands for any.
fn param_ref(reference: Option<&ParamRef>) -> String {
    let Some(reference) = reference else {
        return cells::UNSET.to_owned();
    };
    let text = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    match (
        text(&reference.name),
        text(&reference.namespace),
        &reference.selector,
    ) {
        (Some(name), Some(namespace), _) => format!("{namespace}/{name}"),
        (Some(name), None, _) => format!("*/{name}"),
        (None, _, Some(selector)) => cells::go_selector(selector),
        (None, _, None) => cells::UNSET.to_owned(),
    }
}

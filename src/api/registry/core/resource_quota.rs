//! Resource Quotas of `v1`.

use crate::validation::amounts::{self, Amounts, amount};
use crate::validation::changes::{IS_IMMUTABLE, json};
use crate::validation::{found, path, resource_names};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::core::v1::ResourceQuotaSpec;
use std::collections::BTreeSet;

use crate::{Column, DeleteAnswer, Strategy, Subresource};

/// Objects of kind `ResourceQuota`.
#[derive(Debug)]
pub struct ResourceQuotas;

impl Strategy for ResourceQuotas {
    type Kind = ResourceQuota;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Request", |quota, _| {
            amounts(quota, |name| !name.starts_with("limits.")).into()
        }),
        Column::text("Limit", |quota, _| {
            amounts(quota, |name| name.starts_with("limits.")).into()
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["quota"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn validate(quota: &ResourceQuota) -> FieldErrors {
        let Some(spec) = &quota.spec else {
            return FieldErrors::none();
        };
        let path = FieldPath::new("spec");
        found(|errors| {
            resources(errors, spec.hard.as_ref(), &path.child("hard"));
            scopes(errors, spec, &path.child("scopes"));
            scope_selector(
                errors,
                spec,
                &path.child("scopeSelector").child("matchExpressions"),
            );
        })
    }

    fn validate_update(quota: &ResourceQuota, old: &ResourceQuota) -> FieldErrors {
        let scopes = |quota: &ResourceQuota| {
            quota
                .spec
                .as_ref()
                .and_then(|spec| spec.scopes.clone())
                .unwrap_or_default()
        };
        let set = |quota: &ResourceQuota| scopes(quota).into_iter().collect::<BTreeSet<String>>();
        found(|errors| {
            if set(quota) != set(old) {
                errors.push(FieldError::invalid(
                    &path(&["spec", "scopes"]),
                    json(&scopes(quota)),
                    IS_IMMUTABLE,
                ));
            }
        })
    }

    fn validate_status_update(quota: &ResourceQuota, _old: &ResourceQuota) -> FieldErrors {
        let status = quota.status.clone().unwrap_or_default();
        let path = FieldPath::new("status");
        found(|errors| {
            resources(errors, status.hard.as_ref(), &path.child("hard"));
            resources(errors, status.used.as_ref(), &path.child("used"));
        })
    }

    fn warnings(quota: &ResourceQuota) -> Vec<String> {
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        let of = |name: &str| hard.and_then(|hard| hard.get(name)).map(amount);
        let mut warnings = Vec::new();
        for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
            let (full, limit_name) = (format!("requests.{name}"), format!("limits.{name}"));
            let bare = || {
                of(name)
                    .filter(|_| matches!(name, "cpu" | "memory"))
                    .map(|amount| (name, amount))
            };
            let request = of(&full)
                .map(|amount| (full.as_str(), amount))
                .or_else(bare);
            if let (Some((request_name, request)), Some(limit)) = (request, of(&limit_name))
                && request > limit
            {
                warnings.push(format!(
                    "ResourceQuota {request_name} ({request}) should be less than {limit_name} ({limit})"
                ));
            }
        }
        warnings
    }

    fn warnings_on_update(_quota: &ResourceQuota, _old: &ResourceQuota) -> Vec<String> {
        Vec::new()
    }
}

/// `used/hard` of the chosen resources.
fn amounts(quota: &ResourceQuota, chosen: fn(&str) -> bool) -> String {
    let Some(status) = &quota.status else {
        return String::new();
    };
    let used = |name: &String| {
        status
            .used
            .as_ref()
            .and_then(|used| used.get(name))
            .map_or("0", |amount| amount.0.as_str())
    };
    let hard = status
        .hard
        .iter()
        .flatten()
        .filter(|(name, _)| chosen(name));
    let pairs: Vec<String> = hard
        .map(|(name, amount)| format!("{name}: {}/{}", used(name), amount.0))
        .collect();
    pairs.join(", ")
}

const UNSUPPORTED: &str = "unsupported scope";
const UNSUPPORTED_FOR_RESOURCE: &str = "unsupported scope applied to resource";

fn resources(errors: &mut FieldErrors, amounts: Option<&Amounts>, path: &FieldPath) {
    for (name, amount) in amounts.into_iter().flatten() {
        resource_names::of_quota(errors, name, &path.key(name));
        amounts::resource_amount(errors, name, amount, &path.key(name));
    }
}

fn is_known(scope: &str) -> bool {
    matches!(
        scope,
        "Terminating"
            | "NotTerminating"
            | "BestEffort"
            | "NotBestEffort"
            | "PriorityClass"
            | "VolumeAttributesClass"
            | "CrossNamespacePodAffinity"
    )
}

/// How many of the limited resources the scope says nothing about.
fn unfit(spec: &ResourceQuotaSpec, scope: &str) -> usize {
    let is_of_pods = |name: &str| {
        matches!(
            name,
            "pods"
                | "cpu"
                | "memory"
                | "limits.cpu"
                | "limits.memory"
                | "requests.cpu"
                | "requests.memory"
        )
    };
    let fits = |name: &str| match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => is_of_pods(name),
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    };
    let names = spec.hard.iter().flatten().map(|(name, _)| name);
    names
        .filter(|name| resource_names::is_standard_in_quota(name) && !fits(name))
        .count()
}

/// How many pairs of scopes shut each other out.
fn conflicts(scopes: &BTreeSet<&str>) -> usize {
    let pairs = [
        ("BestEffort", "NotBestEffort"),
        ("Terminating", "NotTerminating"),
    ];
    pairs
        .iter()
        .filter(|(one, other)| scopes.contains(one) && scopes.contains(other))
        .count()
}

fn scopes(errors: &mut FieldErrors, spec: &ResourceQuotaSpec, path: &FieldPath) {
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    let mut refuse = |why: &str| errors.push(FieldError::invalid(path, json(scopes), why));
    for scope in scopes {
        if !is_known(scope) {
            refuse(UNSUPPORTED);
        }
        (0..unfit(spec, scope)).for_each(|_| refuse(UNSUPPORTED_FOR_RESOURCE));
    }
    let set = scopes.iter().map(String::as_str).collect();
    (0..conflicts(&set)).for_each(|_| refuse("conflicting scopes"));
}

fn scope_selector(errors: &mut FieldErrors, spec: &ResourceQuotaSpec, path: &FieldPath) {
    let Some(selector) = &spec.scope_selector else {
        return;
    };
    let requirements = selector.match_expressions.as_deref().unwrap_or_default();
    for requirement in requirements {
        let scope = requirement.scope_name.as_str();
        if !is_known(scope) {
            errors.push(FieldError::invalid(
                &path.child("scopeName"),
                scope,
                UNSUPPORTED,
            ));
        }
        for _ in 0..unfit(spec, scope) {
            errors.push(FieldError::invalid(
                path,
                json(selector),
                UNSUPPORTED_FOR_RESOURCE,
            ));
        }
        let operator = requirement.operator.as_str();
        let only_exists = matches!(
            scope,
            "BestEffort"
                | "NotBestEffort"
                | "Terminating"
                | "NotTerminating"
                | "CrossNamespacePodAffinity"
        );
        if only_exists && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                       ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                       ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(&path.child("operator"), operator, why));
        }
        let values = requirement.values.as_deref().unwrap_or_default();
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(&path.child("values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(
                    &path.child("values"),
                    json(values),
                    why,
                ));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => (),
            _ => errors.push(FieldError::invalid(
                &path.child("operator"),
                operator,
                "not a valid selector operator",
            )),
        }
    }
    let set = requirements
        .iter()
        .map(|requirement| requirement.scope_name.as_str())
        .collect();
    for _ in 0..conflicts(&set) {
        let scopes = json(spec.scopes.as_deref().unwrap_or_default());
        errors.push(FieldError::invalid(path, scopes, "conflicting scopes"));
    }
}

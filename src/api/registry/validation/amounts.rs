//! Amounts of resources, and amounts that are numbers or percentages.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::{FieldError, FieldErrors, FieldPath, Quantity};
use k8s_openapi::api::core::v1::{ResourceClaim, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::numbers::{IS_NEGATIVE, IS_NOT_POSITIVE, non_negative};
use super::patterns::pattern_error;
use super::{names, resource_names};

pub(crate) type Amounts = BTreeMap<String, ApiQuantity>;

/// The decoder lets only quantities through, so what does not parse is none.
pub(crate) fn amount(quantity: &ApiQuantity) -> Quantity {
    Quantity::parse(&quantity.0).unwrap_or(Quantity::ZERO)
}

/// The canonical form, as errors show it.
pub(crate) fn shown(quantity: &ApiQuantity) -> String {
    amount(quantity).to_string()
}

pub(crate) fn non_negative_quantity(
    errors: &mut FieldErrors,
    quantity: &ApiQuantity,
    path: &FieldPath,
) {
    if amount(quantity).is_negative() {
        errors.push(FieldError::invalid(path, shown(quantity), IS_NEGATIVE));
    }
}

pub(crate) fn positive_quantity(
    errors: &mut FieldErrors,
    quantity: &ApiQuantity,
    path: &FieldPath,
) {
    if amount(quantity) <= Quantity::ZERO {
        errors.push(FieldError::invalid(path, shown(quantity), IS_NOT_POSITIVE));
    }
}

/// An amount of `resource`: not negative, and whole where it counts things.
pub(crate) fn resource_amount(
    errors: &mut FieldErrors,
    resource: &str,
    quantity: &ApiQuantity,
    path: &FieldPath,
) {
    non_negative_quantity(errors, quantity, path);
    if resource_names::is_counted(resource) && !amount(quantity).is_whole() {
        errors.push(FieldError::invalid(
            path,
            shown(quantity),
            "must be an integer",
        ));
    }
}

/// Not negative in whole units.
pub(crate) fn basic_amount(errors: &mut FieldErrors, quantity: &ApiQuantity, path: &FieldPath) {
    let units = amount(quantity).units();
    if units < 0 {
        errors.push(FieldError::invalid(
            path,
            units,
            "must be a valid resource quantity",
        ));
    }
}

type NameRule = fn(&mut FieldErrors, &str, &FieldPath);

/// Requests and limits of a container.
pub(crate) fn container_requirements(
    errors: &mut FieldErrors,
    requirements: Option<&ResourceRequirements>,
    claims: &BTreeSet<String>,
    path: &FieldPath,
) {
    requirements_by(
        errors,
        requirements,
        resource_names::of_container,
        claims,
        path,
    );
}

/// Requests and limits of a whole pod.
pub(crate) fn pod_requirements(
    errors: &mut FieldErrors,
    requirements: Option<&ResourceRequirements>,
    claims: &BTreeSet<String>,
    path: &FieldPath,
) {
    requirements_by(errors, requirements, resource_names::of_pod, claims, path);
}

fn requirements_by(
    errors: &mut FieldErrors,
    requirements: Option<&ResourceRequirements>,
    name_rule: NameRule,
    claims: &BTreeSet<String>,
    path: &FieldPath,
) {
    let Some(requirements) = requirements else {
        return;
    };
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let limits = || requirements.limits.iter().flatten();
    let requests = || requirements.requests.iter().flatten();
    for (name, quantity) in limits() {
        one_requirement(errors, name, quantity, name_rule, &limits_path.key(name));
    }
    for (name, quantity) in requests() {
        one_requirement(errors, name, quantity, name_rule, &requests_path.key(name));
        let limit = requirements
            .limits
            .as_ref()
            .and_then(|limits| limits.get(name));
        request_within_limit(errors, name, quantity, limit, &requests_path, &limits_path);
    }
    let named = |wanted: fn(&str) -> bool| limits().chain(requests()).any(|(name, _)| wanted(name));
    if named(resource_names::is_huge_pages) && !named(|name| matches!(name, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(
            path,
            "HugePages require cpu or memory",
        ));
    }
    claim_names(
        errors,
        requirements.claims.as_deref().unwrap_or_default(),
        claims,
        &path.child("claims"),
    );
}

fn one_requirement(
    errors: &mut FieldErrors,
    name: &str,
    quantity: &ApiQuantity,
    name_rule: NameRule,
    path: &FieldPath,
) {
    name_rule(errors, name, path);
    resource_amount(errors, name, quantity, path);
    if let Some(size) = name.strip_prefix("hugepages-") {
        let size = Quantity::parse(size)
            .ok()
            .filter(|size| size.is_whole() && *size > Quantity::ZERO);
        if size.is_none_or(|size| amount(quantity).units() % size.units() != 0) {
            let why = format!(
                "{} is not positive integer multiple of {name}",
                shown(quantity)
            );
            errors.push(FieldError::invalid(path, shown(quantity), why));
        }
    }
}

fn request_within_limit(
    errors: &mut FieldErrors,
    name: &str,
    request: &ApiQuantity,
    limit: Option<&ApiQuantity>,
    requests_path: &FieldPath,
    limits_path: &FieldPath,
) {
    let overcommitted = resource_names::may_be_overcommitted(name);
    let Some(limit) = limit else {
        if !overcommitted {
            errors.push(FieldError::required(
                limits_path,
                "Limit must be set for non overcommitable resources",
            ));
        }
        return;
    };
    let why = match amount(request).cmp(&amount(limit)) {
        std::cmp::Ordering::Equal => return,
        _ if !overcommitted => format!("must be equal to {name} limit of {}", shown(limit)),
        std::cmp::Ordering::Greater => format!(
            "must be less than or equal to {name} limit of {}",
            shown(limit)
        ),
        std::cmp::Ordering::Less => return,
    };
    errors.push(FieldError::invalid(requests_path, shown(request), why));
}

/// Each claim once, or its requests once each, of those that the pod names.
fn claim_names(
    errors: &mut FieldErrors,
    claims: &[ResourceClaim],
    known: &BTreeSet<String>,
    path: &FieldPath,
) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        let name = claim.name.as_str();
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let request = super::text(&claim.request);
        if seen.contains(name) {
            errors.push(FieldError::duplicate(&path, name));
        } else if request.is_empty() {
            if seen
                .iter()
                .any(|seen| seen.split_once('/').is_some_and(|(claim, _)| claim == name))
            {
                errors.push(FieldError::duplicate(&path, name));
            }
            seen.insert(name.to_owned());
        } else {
            names::dns_label(errors, request, &path.child("request"));
            let key = format!("{name}/{request}");
            if !seen.insert(key.clone()) {
                errors.push(FieldError::duplicate(&path, key));
            }
        }
        if !known.contains(name) {
            let mut error = FieldError::not_found(&path, name);
            error.detail = "must be one of the names in pod.spec.resourceClaims".to_owned();
            if known.is_empty() {
                error.detail.push_str(" which is empty");
            } else {
                let names: Vec<&str> = known.iter().map(String::as_str).collect();
                error.detail.push_str(&format!(": {}", names.join(", ")));
            }
            errors.push(error);
        }
    }
}

/// A number that is not negative, or a percentage.
pub(crate) fn positive_int_or_percent(
    errors: &mut FieldErrors,
    value: &IntOrString,
    path: &FieldPath,
) {
    match value {
        IntOrString::Int(number) => non_negative(errors, *number, path),
        IntOrString::String(text) => {
            if percent(text).is_none() {
                errors.push(FieldError::invalid(path, text.as_str(), percent_error()));
            }
        }
    }
}

fn percent_error() -> String {
    let rule = "a valid percent string must be a numeric string followed by an ending '%'";
    pattern_error(rule, "[0-9]+%", &["1%", "93%"])
}

/// Not above 100%.
pub(crate) fn at_most_hundred_percent(
    errors: &mut FieldErrors,
    value: &IntOrString,
    path: &FieldPath,
) {
    if let IntOrString::String(text) = value
        && percent(text).is_some_and(|percent| percent > 100)
    {
        errors.push(FieldError::invalid(
            path,
            text.as_str(),
            "must not be greater than 100%",
        ));
    }
}

/// The number of a percentage.
pub(crate) fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// The number, be it a percentage or not.
pub(crate) fn number_of(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => percent(text).unwrap_or(0),
    }
}

//! Limit Ranges of `v1`.

use crate::validation::amounts::{Amounts, amount};
use crate::validation::{found, names, path, resource_names};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::LimitRangeItem;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::LimitRange;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{Permission, Strategy};

/// Objects of kind `LimitRange`.
#[derive(Debug)]
pub struct LimitRanges;

impl Strategy for LimitRanges {
    type Kind = LimitRange;
    const SHORT_NAMES: &'static [&'static str] = &["limits"];
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;

    fn default(range: &mut LimitRange) {
        for limit in range
            .spec
            .iter_mut()
            .flat_map(|spec| spec.limits.iter_mut())
            .filter(|limit| limit.type_ == "Container")
        {
            let fill = |target: &mut Option<BTreeMap<String, Quantity>>,
                        source: &Option<BTreeMap<String, Quantity>>| {
                for (name, amount) in source.iter().flatten() {
                    target
                        .get_or_insert_default()
                        .entry(name.clone())
                        .or_insert_with(|| amount.clone());
                }
            };
            fill(&mut limit.default, &limit.max);
            fill(&mut limit.default_request, &limit.default);
            fill(&mut limit.default_request, &limit.min);
        }
    }

    fn validate(range: &LimitRange) -> FieldErrors {
        let path = path(&["spec", "limits"]);
        let mut types = BTreeSet::new();
        found(|errors| {
            for (index, limit) in range.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
                let path = path.index(index);
                type_name(errors, &limit.type_, &path.child("type"));
                if !types.insert(&limit.type_) {
                    errors.push(FieldError::duplicate(
                        &path.child("type"),
                        limit.type_.as_str(),
                    ));
                }
                resources(errors, limit, &path);
                for name in names_of(limit) {
                    bounds(errors, limit, name, &path);
                }
            }
        })
    }
}

/// From here on thousandths of an amount no longer fit a number.
const MILLIS_MAX: i64 = i64::MAX / 1000;

fn type_name(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    let refused = found(|errors| names::qualified_name(errors, name, path));
    if !refused.is_empty() {
        errors.extend(refused);
    } else if !name.contains('/') && !matches!(name, "Pod" | "Container" | "PersistentVolumeClaim")
    {
        errors.push(FieldError::invalid(
            path,
            name,
            "must be a standard limit type or fully qualified",
        ));
    }
}

fn resources(errors: &mut FieldErrors, limit: &LimitRangeItem, path: &FieldPath) {
    let is_of_pods = limit.type_ == "Pod";
    let name_rule = match limit.type_.as_str() {
        "Pod" | "Container" => resource_names::of_container,
        _ => resource_names::any,
    };
    let mut check = |amounts: &Option<Amounts>, field: &str| {
        for name in amounts.iter().flat_map(BTreeMap::keys) {
            name_rule(errors, name, &path.child(field).key(name));
        }
    };
    check(&limit.max, "max");
    check(&limit.min, "min");
    let defaults = [
        (&limit.default, "default"),
        (&limit.default_request, "defaultRequest"),
    ];
    if is_of_pods {
        for (_, field) in defaults
            .iter()
            .filter(|(amounts, _)| amounts.as_ref().is_some_and(|all| !all.is_empty()))
        {
            errors.push(FieldError::forbidden(
                &path.child(field),
                "may not be specified when `type` is 'Pod'",
            ));
        }
    } else {
        for (amounts, field) in defaults {
            check(amounts, field);
        }
    }
    let has_storage = |amounts: &Option<Amounts>| {
        amounts
            .as_ref()
            .is_some_and(|all| all.contains_key("storage"))
    };
    if limit.type_ == "PersistentVolumeClaim"
        && !has_storage(&limit.min)
        && !has_storage(&limit.max)
    {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(&path.child("limits"), why));
    }
    for name in limit
        .max_limit_request_ratio
        .iter()
        .flat_map(BTreeMap::keys)
    {
        name_rule(errors, name, &path.child("maxLimitRequestRatio").key(name));
    }
}

fn names_of(limit: &LimitRangeItem) -> BTreeSet<&String> {
    let defaults = [&limit.default, &limit.default_request]
        .into_iter()
        .filter(|_| limit.type_ != "Pod");
    let all = [&limit.max, &limit.min, &limit.max_limit_request_ratio]
        .into_iter()
        .chain(defaults);
    all.flat_map(|amounts| amounts.iter().flat_map(BTreeMap::keys))
        .collect()
}

/// Minimum, default request, default and maximum of one resource must not cross.
fn bounds(errors: &mut FieldErrors, limit: &LimitRangeItem, name: &str, path: &FieldPath) {
    let of = |amounts: &Option<Amounts>| amounts.as_ref().and_then(|all| all.get(name)).map(amount);
    let default_of = |amounts: &Option<Amounts>| match limit.type_.as_str() {
        "Pod" => None,
        _ => of(amounts),
    };
    let (min, max) = (of(&limit.min), of(&limit.max));
    let default = default_of(&limit.default);
    let request = default_of(&limit.default_request);
    let (low, high) = (("min value", min), ("max value", max));
    let middle = ("default request value", request);
    for (low, high, field, shown) in [
        (low, high, "min", min),
        (low, middle, "defaultRequest", request),
        (middle, high, "defaultRequest", request),
        (
            middle,
            ("default limit value", default),
            "defaultRequest",
            request,
        ),
        // Of a default, errors show the bound that it crosses, as upstream's do.
        (low, ("default value", default), "default", min),
        (("default value", default), high, "default", max),
    ] {
        in_order(errors, low, high, shown, &path.child(field).key(name));
    }
    ratio(
        errors,
        of(&limit.max_limit_request_ratio),
        min.zip(max),
        &path.child("maxLimitRequestRatio").key(name),
    );
    if let (Some(default), Some(request)) = (default, request)
        && !resource_names::may_be_overcommitted(name)
        && default != request
    {
        let why = format!(
            "default value {default} must equal to defaultRequest value {request} in {name}"
        );
        errors.push(FieldError::invalid(
            &path.child("defaultRequest").key(name),
            request.to_string(),
            why,
        ));
    }
}

/// An amount and what errors call it.
type Named<'a> = (&'a str, Option<apimachinery::Quantity>);

fn in_order(
    errors: &mut FieldErrors,
    (low_name, low): Named<'_>,
    (high_name, high): Named<'_>,
    shown: Option<apimachinery::Quantity>,
    path: &FieldPath,
) {
    if let (Some(low), Some(high), Some(shown)) = (low, high, shown)
        && low > high
    {
        let why = format!("{low_name} {low} is greater than {high_name} {high}");
        errors.push(FieldError::invalid(path, shown.to_string(), why));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "amounts are compared as upstream does, which loses the same bits"
)]
fn ratio(
    errors: &mut FieldErrors,
    ratio: Option<apimachinery::Quantity>,
    bounds: Option<(apimachinery::Quantity, apimachinery::Quantity)>,
    path: &FieldPath,
) {
    let Some(ratio) = ratio else { return };
    let mut refuse = |why: String| errors.push(FieldError::invalid(path, ratio.to_string(), why));
    if ratio < apimachinery::Quantity::from_units(1) {
        refuse(format!("ratio {ratio} is less than 1"));
    }
    let Some((min, max)) = bounds else { return };
    let fits = [ratio, min, max]
        .iter()
        .all(|amount| amount.units() < MILLIS_MAX);
    let (value, highest) = if fits {
        (
            ratio.millis() as f64 / 1000.0,
            max.millis() as f64 / min.millis() as f64,
        )
    } else {
        (
            ratio.units() as f64,
            max.units() as f64 / min.units() as f64,
        )
    };
    if value > highest {
        refuse(format!(
            "ratio {ratio} is greater than max/min = {highest:.6}"
        ));
    }
}

//! What a HorizontalPodAutoscaler must be, in either version.

use apimachinery::{FieldError, FieldErrors, FieldPath, NameRule};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, ExternalMetricSource, HPAScalingPolicy, HPAScalingRules,
    HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget, ObjectMetricSource,
};

use super::autoscalers::{Scaling, Target};
use crate::validation::amounts::{amount, non_negative_quantity, shown};
use crate::validation::{names, one_of, resource_names, selectors, text};

const WINDOW_SECONDS_MAX: i32 = 3600;
const PERIOD_SECONDS_MAX: i32 = 1800;
const SOURCES: [&str; 5] = [
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];

/// Replicas and the target of an autoscaler.
pub(super) fn scaling(errors: &mut FieldErrors, scaling: &Scaling<'_>, path: &FieldPath) {
    let (min, max) = (scaling.replicas_min, scaling.replicas_max);
    if let Some(min) = min.filter(|min| *min < 1) {
        errors.push(FieldError::invalid(
            &path.child("minReplicas"),
            min,
            "must be greater than or equal to 1",
        ));
    }
    let max_path = path.child("maxReplicas");
    if max == 0 {
        errors.push(FieldError::required(
            &max_path,
            "must be set and greater than 0",
        ));
    } else if max < 0 {
        errors.push(FieldError::invalid(
            &max_path,
            max,
            "must be greater than or equal to 1",
        ));
    }
    if min.is_some_and(|min| max < min) {
        errors.push(FieldError::invalid(
            &max_path,
            max,
            "must be greater than or equal to `minReplicas`",
        ));
    }
    let path = path.child("scaleTargetRef");
    let Target {
        kind,
        name,
        api_version,
    } = scaling.target;
    reference(errors, kind, name, api_version, &path);
    if !api_version.contains('/') {
        let why = "apiVersion must specify API group";
        errors.push(FieldError::invalid(
            &path.child("apiVersion"),
            api_version,
            why,
        ));
    }
}

pub(super) fn metrics_and_behavior(
    errors: &mut FieldErrors,
    spec: &HorizontalPodAutoscalerSpec,
    path: &FieldPath,
) {
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    for (index, metric) in metrics.iter().enumerate() {
        one_metric(errors, metric, &path.child("metrics").index(index));
    }
    let lets_zero = metrics
        .iter()
        .any(|metric| matches!(metric.type_.as_str(), "Object" | "External"));
    if spec.min_replicas == Some(0) && !lets_zero {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(&path.child("metrics"), why));
    }
    let behavior = spec.behavior.clone().unwrap_or_default();
    for (field, rules) in [
        ("scaleUp", &behavior.scale_up),
        ("scaleDown", &behavior.scale_down),
    ] {
        if let Some(rules) = rules {
            scaling_rules(errors, rules, &path.child("behavior").child(field));
        }
    }
}

fn path_segment(errors: &mut FieldErrors, name: &str, missing: &str, path: &FieldPath) {
    if name.is_empty() {
        errors.push(FieldError::required(path, missing));
    } else if let Some(why) = NameRule::PathSegment.error(name) {
        errors.push(FieldError::invalid(path, name, why));
    }
}

fn reference(
    errors: &mut FieldErrors,
    kind: &str,
    name: &str,
    api_version: &str,
    path: &FieldPath,
) {
    path_segment(errors, kind, "", &path.child("kind"));
    path_segment(errors, name, "", &path.child("name"));
    if api_version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {api_version}");
        errors.push(FieldError::invalid(
            &path.child("apiVersion"),
            api_version,
            why,
        ));
    }
}

fn scaling_rules(errors: &mut FieldErrors, rules: &HPAScalingRules, path: &FieldPath) {
    if let Some(seconds) = rules.stabilization_window_seconds {
        let path = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.push(FieldError::invalid(
                &path,
                seconds,
                "must be greater than or equal to zero",
            ));
        }
        if seconds > WINDOW_SECONDS_MAX {
            let why = format!("must be less than or equal to {WINDOW_SECONDS_MAX}");
            errors.push(FieldError::invalid(&path, seconds, why));
        }
    }
    if let Some(policy) = &rules.select_policy {
        one_of(
            errors,
            policy,
            &["Disabled", "Max", "Min"],
            &path.child("selectPolicy"),
        );
    }
    let policies = rules.policies.as_deref().unwrap_or_default();
    let policies_path = path.child("policies");
    if policies.is_empty() {
        errors.push(FieldError::required(
            &policies_path,
            "must specify at least one Policy",
        ));
    }
    for (index, policy) in policies.iter().enumerate() {
        scaling_policy(errors, policy, &policies_path.index(index));
    }
    if let Some(tolerance) = &rules.tolerance {
        non_negative_quantity(errors, tolerance, &path.child("tolerance"));
    }
}

fn scaling_policy(errors: &mut FieldErrors, policy: &HPAScalingPolicy, path: &FieldPath) {
    one_of(
        errors,
        &policy.type_,
        &["Percent", "Pods"],
        &path.child("type"),
    );
    let period_path = path.child("periodSeconds");
    for (number, path) in [
        (policy.value, &path.child("value")),
        (policy.period_seconds, &period_path),
    ] {
        if number <= 0 {
            errors.push(FieldError::invalid(
                path,
                number,
                "must be greater than zero",
            ));
        }
    }
    if policy.period_seconds > PERIOD_SECONDS_MAX {
        let why = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
        errors.push(FieldError::invalid(
            &period_path,
            policy.period_seconds,
            why,
        ));
    }
}

fn one_metric(errors: &mut FieldErrors, metric: &MetricSpec, path: &FieldPath) {
    let type_path = path.child("type");
    let kind = metric.type_.as_str();
    if kind.is_empty() {
        errors.push(FieldError::required(
            &type_path,
            "must specify a metric source type",
        ));
    }
    one_of(errors, kind, &SOURCES, &type_path);
    let present = present(metric);
    if let Some(first) = present.first() {
        source(errors, metric, first, &path.child(first));
    }
    let expected = match kind {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "External" => "external",
        "ContainerResource" => "containerResource",
        _ => {
            one_of(errors, kind, &SOURCES, &type_path);
            ""
        }
    };
    if !expected.is_empty() && !present.contains(&expected) {
        let why = "must populate information for the given metric source";
        errors.push(FieldError::required(&path.child(expected), why));
    }
    if present.len() != 1 {
        for other in present.iter().filter(|field| **field != expected) {
            errors.push(FieldError::forbidden(
                &path.child(other),
                "must populate the given metric source only",
            ));
        }
    }
}

fn present(metric: &MetricSpec) -> Vec<&'static str> {
    let all = [
        (metric.object.is_some(), "object"),
        (metric.external.is_some(), "external"),
        (metric.pods.is_some(), "pods"),
        (metric.resource.is_some(), "resource"),
        (metric.container_resource.is_some(), "containerResource"),
    ];
    all.into_iter()
        .filter(|(is_set, _)| *is_set)
        .map(|(_, field)| field)
        .collect()
}

fn source(errors: &mut FieldErrors, metric: &MetricSpec, field: &str, path: &FieldPath) {
    if let ("object", Some(object)) = (field, &metric.object) {
        object_source(errors, object, path);
    }
    if let ("external", Some(external)) = (field, &metric.external) {
        external_source(errors, external, path);
    }
    if let ("pods", Some(pods)) = (field, &metric.pods) {
        identifier(errors, &pods.metric, &path.child("metric"));
        let target_path = target(errors, &pods.target, path);
        if pods.target.average_value.is_none() {
            let why = "must specify a positive target averageValue";
            errors.push(FieldError::required(
                &target_path.child("averageValue"),
                why,
            ));
        }
    }
    if let ("resource", Some(resource)) = (field, &metric.resource) {
        if resource.name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), NO_RESOURCE));
        }
        use_target(errors, &resource.target, path);
    }
    if let ("containerResource", Some(resource)) = (field, &metric.container_resource) {
        container_source(errors, resource, path);
    }
}

const NO_RESOURCE: &str = "must specify a resource name";

fn object_source(errors: &mut FieldErrors, object: &ObjectMetricSource, path: &FieldPath) {
    let described = &object.described_object;
    reference(
        errors,
        &described.kind,
        &described.name,
        text(&described.api_version),
        &path.child("describedObject"),
    );
    identifier(errors, &object.metric, &path.child("metric"));
    let target_path = target(errors, &object.target, path);
    if object.target.value.is_none() && object.target.average_value.is_none() {
        let why = "must set either a target value or averageValue";
        errors.push(FieldError::required(
            &target_path.child("averageValue"),
            why,
        ));
    }
}

fn external_source(errors: &mut FieldErrors, external: &ExternalMetricSource, path: &FieldPath) {
    identifier(errors, &external.metric, &path.child("metric"));
    let target_path = target(errors, &external.target, path);
    match (&external.target.value, &external.target.average_value) {
        (None, None) => {
            let why = "must set either a target value for metric or a per-pod target";
            errors.push(FieldError::required(
                &target_path.child("averageValue"),
                why,
            ));
        }
        (Some(_), Some(_)) => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&target_path.child("value"), why));
        }
        _ => (),
    }
}

fn container_source(
    errors: &mut FieldErrors,
    resource: &ContainerResourceMetricSource,
    path: &FieldPath,
) {
    match resource.name.as_str() {
        "" => errors.push(FieldError::required(&path.child("name"), NO_RESOURCE)),
        name => resource_names::of_container(errors, name, &path.child("name")),
    }
    match resource.container.as_str() {
        "" => errors.push(FieldError::required(
            &path.child("container"),
            "must specify a container",
        )),
        name => names::dns_label(errors, name, &path.child("container")),
    }
    use_target(errors, &resource.target, path);
}

fn use_target(errors: &mut FieldErrors, metric_target: &MetricTarget, path: &FieldPath) {
    let target_path = target(errors, metric_target, path);
    match (
        metric_target.average_utilization,
        &metric_target.average_value,
    ) {
        (None, None) => {
            let why = "must set either a target raw value or a target utilization";
            errors.push(FieldError::required(
                &target_path.child("averageUtilization"),
                why,
            ));
        }
        (Some(_), Some(_)) => {
            let why = "may not set both a target raw value and a target utilization";
            errors.push(FieldError::forbidden(
                &target_path.child("averageValue"),
                why,
            ));
        }
        _ => (),
    }
}

fn target(errors: &mut FieldErrors, target: &MetricTarget, path: &FieldPath) -> FieldPath {
    let path = path.child("target");
    if target.type_.is_empty() {
        errors.push(FieldError::required(
            &path.child("type"),
            "must specify a metric target type",
        ));
    }
    if !matches!(
        target.type_.as_str(),
        "Utilization" | "Value" | "AverageValue"
    ) {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(
            &path.child("type"),
            target.type_.as_str(),
            why,
        ));
    }
    for (field, value) in [
        ("value", &target.value),
        ("averageValue", &target.average_value),
    ] {
        if let Some(value) = value
            .as_ref()
            .filter(|value| amount(value) <= apimachinery::Quantity::ZERO)
        {
            errors.push(FieldError::invalid(
                &path.child(field),
                shown(value),
                "must be positive",
            ));
        }
    }
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        errors.push(FieldError::invalid(
            &path.child("averageUtilization"),
            percent,
            "must be greater than 0",
        ));
    }
    path
}

fn identifier(errors: &mut FieldErrors, metric: &MetricIdentifier, path: &FieldPath) {
    path_segment(
        errors,
        &metric.name,
        "must specify a metric name",
        &path.child("name"),
    );
    selectors::label_selector(errors, metric.selector.as_ref(), &path.child("selector"));
}

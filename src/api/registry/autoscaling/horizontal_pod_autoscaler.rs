//! Horizontal Pod Autoscalers of `autoscaling/v2`.

use super::validation;
use crate::validation::numbers::non_negative;
use crate::validation::{found, text};
use apimachinery::{FieldErrors, FieldPath};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::cells;
use crate::{Column, Strategy, Subresource};

const DEFAULT_CPU_PERCENT: i32 = 80;

/// Whoever says something of one direction gets the defaults of both.
fn default_behavior(behavior: &mut HorizontalPodAutoscalerBehavior) {
    let policy = |kind: &str, value: i32| HPAScalingPolicy {
        type_: kind.to_owned(),
        value,
        period_seconds: 15,
    };
    let up = behavior.scale_up.get_or_insert_default();
    up.stabilization_window_seconds.get_or_insert(0);
    up.select_policy.get_or_insert_with(|| "Max".to_owned());
    up.policies
        .get_or_insert_with(|| vec![policy("Pods", 4), policy("Percent", 100)]);
    let down = behavior.scale_down.get_or_insert_default();
    down.select_policy.get_or_insert_with(|| "Max".to_owned());
    down.policies
        .get_or_insert_with(|| vec![policy("Percent", 100)]);
}

/// Objects of kind `HorizontalPodAutoscaler`.
#[derive(Debug)]
pub struct HorizontalPodAutoscalers;

impl Strategy for HorizontalPodAutoscalers {
    type Kind = HorizontalPodAutoscaler;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Reference", |scaler, _| {
            format!(
                "{}/{}",
                scaler.spec.scale_target_ref.kind, scaler.spec.scale_target_ref.name
            )
            .into()
        }),
        Column::text("Targets", |scaler, _| targets(scaler).into()),
        Column::text("MinPods", |scaler, _| match scaler.spec.min_replicas {
            Some(count) => count.to_string().into(),
            None => cells::UNSET.into(),
        }),
        Column::text("MaxPods", |scaler, _| scaler.spec.max_replicas.into()),
        Column::text("Replicas", |scaler, _| {
            scaler
                .status
                .as_ref()
                .and_then(|status| status.current_replicas)
                .unwrap_or(0)
                .into()
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["hpa"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];

    fn default(scaler: &mut HorizontalPodAutoscaler) {
        let spec = &mut scaler.spec;
        spec.min_replicas.get_or_insert(1);
        if let Some(behavior) = &mut spec.behavior {
            default_behavior(behavior);
        }
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            let target = MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(DEFAULT_CPU_PERCENT),
                ..MetricTarget::default()
            };
            let resource = Some(ResourceMetricSource {
                name: "cpu".to_owned(),
                target,
            });
            spec.metrics = Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource,
                ..MetricSpec::default()
            }]);
        }
    }

    fn validate(scaler: &HorizontalPodAutoscaler) -> FieldErrors {
        let spec = &scaler.spec;
        let target = &spec.scale_target_ref;
        let target = (
            target.kind.as_str(),
            target.name.as_str(),
            text(&target.api_version),
        );
        let path = FieldPath::new("spec");
        found(|errors| {
            validation::scaling(
                errors,
                (spec.min_replicas, spec.max_replicas),
                target,
                &path,
            );
            validation::metrics_and_behavior(errors, spec, &path);
        })
    }

    fn validate_status_update(
        scaler: &HorizontalPodAutoscaler,
        _old: &HorizontalPodAutoscaler,
    ) -> FieldErrors {
        let status = scaler.status.clone().unwrap_or_default();
        found(|errors| {
            let path = FieldPath::new("status");
            non_negative(
                errors,
                status.current_replicas.unwrap_or(0),
                &path.child("currentReplicas"),
            );
            non_negative(
                errors,
                status.desired_replicas,
                &path.child("desiredReplicas"),
            );
        })
    }
}

/// Targets shown before the rest is counted.
const TARGETS_MAX: usize = 2;

/// `current/target` of every metric.
pub(super) fn targets(scaler: &HorizontalPodAutoscaler) -> String {
    let metrics = scaler.spec.metrics.as_deref().unwrap_or_default();
    if metrics.is_empty() {
        return cells::NONE.to_owned();
    }
    let statuses = scaler
        .status
        .as_ref()
        .and_then(|status| status.current_metrics.as_deref())
        .unwrap_or_default();
    let texts: Vec<String> = metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| target(metric, statuses.get(index)))
        .collect();
    let shown = texts[..texts.len().min(TARGETS_MAX)].join(", ");
    if texts.len() > TARGETS_MAX {
        format!("{shown} + {} more...", texts.len() - TARGETS_MAX)
    } else {
        shown
    }
}

fn target(metric: &MetricSpec, status: Option<&MetricStatus>) -> String {
    let empty = MetricTarget::default();
    match metric.type_.as_str() {
        "External" => {
            let current = status
                .and_then(|status| status.external.as_ref())
                .map(|status| &status.current);
            value_target(
                metric
                    .external
                    .as_ref()
                    .map_or(&empty, |source| &source.target),
                current,
            )
        }
        "Object" => {
            let current = status
                .and_then(|status| status.object.as_ref())
                .map(|status| &status.current);
            value_target(
                metric
                    .object
                    .as_ref()
                    .map_or(&empty, |source| &source.target),
                current,
            )
        }
        "Pods" => {
            let current = status
                .and_then(|status| status.pods.as_ref())
                .map(|status| &status.current);
            let current = current.map_or(cells::UNKNOWN, |value| {
                quantity(value.average_value.as_ref())
            });
            let target = metric
                .pods
                .as_ref()
                .and_then(|source| source.target.average_value.as_ref());
            format!("{current}/{}", quantity(target))
        }
        "Resource" => {
            let current = status
                .and_then(|status| status.resource.as_ref())
                .map(|status| &status.current);
            let source = metric.resource.as_ref();
            let name = source.map_or("", |source| source.name.as_str());
            utilisation_target(
                name,
                source.map_or(&empty, |source| &source.target),
                current,
            )
        }
        "ContainerResource" => {
            let current = status
                .and_then(|status| status.container_resource.as_ref())
                .map(|status| &status.current);
            let source = metric.container_resource.as_ref();
            let name = source.map_or("", |source| source.name.as_str());
            utilisation_target(
                name,
                source.map_or(&empty, |source| &source.target),
                current,
            )
        }
        _ => "<unknown type>".to_owned(),
    }
}

fn quantity(quantity: Option<&Quantity>) -> &str {
    quantity.map_or("<nil>", |quantity| quantity.0.as_str())
}

fn value_target(target: &MetricTarget, current: Option<&MetricValueStatus>) -> String {
    if let Some(average) = &target.average_value {
        let current = current.and_then(|value| value.average_value.as_ref());
        format!(
            "{}/{} (avg)",
            current.map_or(cells::UNKNOWN, |value| &value.0),
            average.0
        )
    } else {
        let current = current.map_or(cells::UNKNOWN, |value| quantity(value.value.as_ref()));
        format!("{current}/{}", quantity(target.value.as_ref()))
    }
}

fn utilisation_target(
    name: &str,
    target: &MetricTarget,
    current: Option<&MetricValueStatus>,
) -> String {
    if let Some(average) = &target.average_value {
        let current = current.map_or(cells::UNKNOWN, |value| {
            quantity(value.average_value.as_ref())
        });
        return format!("{name}: {current}/{}", average.0);
    }
    let percent = |value: Option<i32>, missing: &str| {
        value.map_or(missing.to_owned(), |percent| format!("{percent}%"))
    };
    let current = percent(
        current.and_then(|value| value.average_utilization),
        cells::UNKNOWN,
    );
    format!(
        "{name}: {current}/{}",
        percent(target.average_utilization, "<auto>")
    )
}

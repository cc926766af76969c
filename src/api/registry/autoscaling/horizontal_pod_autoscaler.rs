//! Horizontal Pod Autoscalers of `autoscaling/v2`.

use super::autoscalers::{Autoscaler, Autoscalers, Scaling, Target};
use super::validation;
use crate::validation::text;
use apimachinery::{FieldErrors, FieldPath};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::StoredAs;
use crate::cells;

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
pub(crate) type HorizontalPodAutoscalers = Autoscalers<HorizontalPodAutoscaler>;

impl Autoscaler for HorizontalPodAutoscaler {
    const STORED_AS: Option<StoredAs> = None;

    fn scaling(&self) -> Scaling<'_> {
        let spec = &self.spec;
        let status = self.status.as_ref();
        Scaling {
            target: Target {
                kind: &spec.scale_target_ref.kind,
                name: &spec.scale_target_ref.name,
                api_version: text(&spec.scale_target_ref.api_version),
            },
            replicas_min: spec.min_replicas,
            replicas_max: spec.max_replicas,
            replicas_now: status
                .and_then(|status| status.current_replicas)
                .unwrap_or(0),
            replicas_desired: status.map_or(0, |status| status.desired_replicas),
        }
    }

    fn targets(&self) -> String {
        targets(self)
    }

    fn default_replicas_min(&mut self) -> &mut Option<i32> {
        &mut self.spec.min_replicas
    }

    fn default_metrics(&mut self) {
        let spec = &mut self.spec;
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

    fn validate_metrics(&self, errors: &mut FieldErrors, spec: &FieldPath) {
        validation::metrics_and_behavior(errors, &self.spec, spec);
    }
}

/// Targets shown before the rest is counted.
const TARGETS_MAX: usize = 2;

/// `current/target` of every metric.
fn targets(scaler: &HorizontalPodAutoscaler) -> String {
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

//! Horizontal Pod Autoscalers of `autoscaling/v1`.

use super::validation;
use crate::validation::numbers::non_negative;
use crate::validation::{found, text};
use apimachinery::Object;
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use serde_json::{Value, json};

use crate::cells;
use crate::{Column, StoredAs, Strategy, Subresource};

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
        Column::text("Targets", |scaler, _| targets_of_stored(scaler).into()),
        Column::text("MinPods", |scaler, _| match scaler.spec.min_replicas {
            Some(count) => count.to_string().into(),
            None => cells::UNSET.into(),
        }),
        Column::text("MaxPods", |scaler, _| scaler.spec.max_replicas.into()),
        Column::text("Replicas", |scaler, _| {
            scaler
                .status
                .as_ref()
                .map_or(0, |status| status.current_replicas)
                .into()
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["hpa"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STORED_AS: Option<StoredAs> = Some(StoredAs {
        group: "autoscaling",
        version: "v2",
        kind: "HorizontalPodAutoscaler",
        plural: "horizontalpodautoscalers",
        to_stored,
        from_stored,
    });

    fn default(scaler: &mut HorizontalPodAutoscaler) {
        scaler.spec.min_replicas.get_or_insert(1);
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
            // The percentage is the first metric, as the second version tells it.
            if let Some(percent) = spec
                .target_cpu_utilization_percentage
                .filter(|percent| *percent < 1)
            {
                let path = path
                    .child("metrics")
                    .index(0)
                    .child("resource")
                    .child("target")
                    .child("averageUtilization");
                errors.push(FieldError::invalid(
                    &path,
                    percent,
                    "must be greater than 0",
                ));
            }
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
                status.current_replicas,
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

/// The targets as version 2 has them: version 1 keeps most in annotations.
fn targets_of_stored(scaler: &HorizontalPodAutoscaler) -> String {
    let object = serde_json::to_value(scaler)
        .ok()
        .and_then(Object::from_value);
    let Some(mut object) = object else {
        return cells::NONE.to_owned();
    };
    to_stored(&mut object);
    match serde_json::from_value(object.into_value()) {
        Ok(stored) => super::horizontal_pod_autoscaler::targets(&stored),
        Err(_) => cells::NONE.to_owned(),
    }
}

/// What version 1 has no field for travels in these annotations, as upstream does it.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn to_stored(object: &mut Object) {
    let mut metrics = take_annotation(object, METRICS)
        .and_then(into_list)
        .unwrap_or_default();
    if let Some(percent) = object.remove_at(&["spec", "targetCPUUtilizationPercentage"]) {
        metrics.push(json!({"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}}));
    }
    if !metrics.is_empty() {
        object.set_at(&["spec", "metrics"], metrics.into());
    }
    if let Some(behavior) = take_annotation(object, BEHAVIOR) {
        object.set_at(&["spec", "behavior"], behavior);
    }
    let mut current = take_annotation(object, CURRENT_METRICS)
        .and_then(into_list)
        .unwrap_or_default();
    if let Some(percent) = object.remove_at(&["status", "currentCPUUtilizationPercentage"]) {
        current.push(json!({"type": "Resource", "resource": {
            "name": "cpu", "current": {"averageUtilization": percent}}}));
    }
    if !current.is_empty() {
        object.set_at(&["status", "currentMetrics"], current.into());
    }
    if let Some(conditions) = take_annotation(object, CONDITIONS) {
        object.set_at(&["status", "conditions"], conditions);
    }
}

fn from_stored(object: &mut Object) {
    let metrics = object
        .remove_at(&["spec", "metrics"])
        .and_then(into_list)
        .unwrap_or_default();
    let (cpu, others) = split_cpu(metrics, "target");
    if let Some(percent) = cpu {
        object.set_at(&["spec", "targetCPUUtilizationPercentage"], percent);
    }
    keep_in_annotation(object, METRICS, (!others.is_empty()).then(|| others.into()));
    let current = object
        .remove_at(&["status", "currentMetrics"])
        .and_then(into_list)
        .unwrap_or_default();
    if let (Some(percent), _) = split_cpu(current.clone(), "current") {
        object.set_at(&["status", "currentCPUUtilizationPercentage"], percent);
    }
    keep_in_annotation(
        object,
        CURRENT_METRICS,
        (!current.is_empty()).then(|| current.into()),
    );
    let behavior = object.remove_at(&["spec", "behavior"]);
    keep_in_annotation(object, BEHAVIOR, behavior);
    let conditions = object.remove_at(&["status", "conditions"]);
    keep_in_annotation(object, CONDITIONS, conditions);
}

fn into_list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

/// The utilisation of the first CPU metric, and the other metrics.
fn split_cpu(mut metrics: Vec<Value>, side: &str) -> (Option<Value>, Vec<Value>) {
    let at = metrics.iter().position(|metric| {
        metric["resource"]["name"] == "cpu"
            && !metric["resource"][side]["averageUtilization"].is_null()
    });
    let cpu = at.map(|at| metrics.remove(at)["resource"][side]["averageUtilization"].clone());
    (cpu, metrics)
}

fn take_annotation(object: &mut Object, key: &str) -> Option<Value> {
    let annotations = object
        .metadata_mut()
        .get_mut("annotations")?
        .as_object_mut()?;
    let text = annotations.remove(key)?;
    let is_empty = annotations.is_empty();
    if is_empty {
        object.metadata_mut().remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn keep_in_annotation(object: &mut Object, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        object.set_at(&["metadata", "annotations", key], value.to_string().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_1_cannot_say_survives_in_annotations() {
        let stored = json!({"metadata": {"name": "a"}, "spec": {"behavior": {"scaleUp": {}}, "metrics": [
            {"type": "Pods"},
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}});
        let mut object = Object::from_value(stored.clone()).expect("an object");
        from_stored(&mut object);
        assert_eq!(
            object.at(&["spec", "targetCPUUtilizationPercentage"]),
            Some(&json!(80))
        );
        to_stored(&mut object);
        assert_eq!(object.into_value(), stored);
    }
}

//! Horizontal Pod Autoscalers of `autoscaling/v1`.

use super::autoscalers::{Autoscaler, Autoscalers, Scaling, Target};
use crate::validation::text;
use apimachinery::Object;
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use k8s_openapi::api::autoscaling::v2;
use serde_json::{Value, json};

use crate::StoredAs;
use crate::cells;

/// Objects of kind `HorizontalPodAutoscaler`.
pub(crate) type HorizontalPodAutoscalers = Autoscalers<HorizontalPodAutoscaler>;

impl Autoscaler for HorizontalPodAutoscaler {
    const STORED_AS: Option<StoredAs> = Some(StoredAs {
        group: "autoscaling",
        version: "v2",
        kind: "HorizontalPodAutoscaler",
        plural: "horizontalpodautoscalers",
        to_stored,
        from_stored,
    });

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
            replicas_now: status.map_or(0, |status| status.current_replicas),
            replicas_desired: status.map_or(0, |status| status.desired_replicas),
        }
    }

    fn targets(&self) -> String {
        targets_of_stored(self)
    }

    fn default_replicas_min(&mut self) -> &mut Option<i32> {
        &mut self.spec.min_replicas
    }

    /// Without a percentage there is no metric, as in upstream.
    fn default_metrics(&mut self) {}

    /// The percentage is the first metric, as the second version tells it.
    fn validate_metrics(&self, errors: &mut FieldErrors, spec: &FieldPath) {
        let percent = self.spec.target_cpu_utilization_percentage;
        if let Some(percent) = percent.filter(|percent| *percent < 1) {
            let path = spec
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
    }
}

/// The targets as version 2 has them: version 1 keeps most in annotations.
fn targets_of_stored(scaler: &HorizontalPodAutoscaler) -> String {
    let Some(mut object) = Object::from_typed(scaler) else {
        return cells::NONE.to_owned();
    };
    to_stored(&mut object);
    match object.to_typed() {
        Ok(stored) => v2::HorizontalPodAutoscaler::targets(&stored),
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

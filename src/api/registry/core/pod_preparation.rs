//! What the server itself writes into a pod: its first status, and what selectors of label keys mean for this pod.

use std::collections::{BTreeMap, VecDeque};

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

type Labels = BTreeMap<String, String>;

/// A pod starts pending, with its quality of service fixed for good.
pub(super) fn prepare_new(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    let mut status = PodStatus {
        phase: Some("Pending".to_owned()),
        qos_class: Some(semantics::qos::qos_class(spec).as_str().to_owned()),
        ..PodStatus::default()
    };
    if spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty())
    {
        status.conditions = Some(vec![PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some("SchedulingGated".to_owned()),
            message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
            ..PodCondition::default()
        }]);
    }
    pod.status = Some(status);
    select_by_own_labels(spec, &pod.metadata.labels.clone().unwrap_or_default());
}

/// Owners stay (old kubelets broke them), and so do the class of service and generations that an older kubelet does not know.
pub(super) fn prepare_status(pod: &mut Pod, old: &Pod) {
    pod.metadata
        .owner_references
        .clone_from(&old.metadata.owner_references);
    let before = old.status.clone().unwrap_or_default();
    let status = pod.status.get_or_insert_default();
    if status.qos_class.as_deref().is_none_or(str::is_empty) {
        status.qos_class = before.qos_class;
    }
    if status.observed_generation.unwrap_or(0) == 0 {
        status.observed_generation = before.observed_generation;
    }
    let mut generations: BTreeMap<String, VecDeque<Option<i64>>> = BTreeMap::new();
    for condition in before.conditions.into_iter().flatten() {
        generations
            .entry(condition.type_)
            .or_default()
            .push_back(condition.observed_generation);
    }
    for condition in status.conditions.iter_mut().flatten() {
        let generation = generations
            .get_mut(&condition.type_)
            .and_then(VecDeque::pop_front)
            .flatten();
        if condition.observed_generation.unwrap_or(0) == 0 {
            condition.observed_generation = generation;
        }
    }
}

/// `matchLabelKeys` and `mismatchLabelKeys` become requirements with this pod's values (KEP-3633, KEP-3243).
fn select_by_own_labels(spec: &mut PodSpec, labels: &Labels) {
    if let Some(affinity) = &mut spec.affinity {
        if let Some(together) = &mut affinity.pod_affinity {
            let preferred = together
                .preferred_during_scheduling_ignored_during_execution
                .iter_mut()
                .flatten();
            preferred.for_each(|weighted| complete_term(&mut weighted.pod_affinity_term, labels));
            let required = together
                .required_during_scheduling_ignored_during_execution
                .iter_mut()
                .flatten();
            required.for_each(|term| complete_term(term, labels));
        }
        if let Some(apart) = &mut affinity.pod_anti_affinity {
            let preferred = apart
                .preferred_during_scheduling_ignored_during_execution
                .iter_mut()
                .flatten();
            preferred.for_each(|weighted| complete_term(&mut weighted.pod_affinity_term, labels));
            let required = apart
                .required_during_scheduling_ignored_during_execution
                .iter_mut()
                .flatten();
            required.for_each(|term| complete_term(term, labels));
        }
    }
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        require(
            constraint.label_selector.as_mut(),
            constraint.match_label_keys.as_deref(),
            "In",
            labels,
        );
    }
}

fn complete_term(term: &mut PodAffinityTerm, labels: &Labels) {
    require(
        term.label_selector.as_mut(),
        term.match_label_keys.as_deref(),
        "In",
        labels,
    );
    require(
        term.label_selector.as_mut(),
        term.mismatch_label_keys.as_deref(),
        "NotIn",
        labels,
    );
}

/// A missing selector selects nothing and stays missing.
fn require(
    selector: Option<&mut LabelSelector>,
    keys: Option<&[String]>,
    operator: &str,
    labels: &Labels,
) {
    let Some(selector) = selector else { return };
    for key in keys.unwrap_or_default() {
        if let Some(value) = labels.get(key) {
            selector
                .match_expressions
                .get_or_insert_default()
                .push(LabelSelectorRequirement {
                    key: key.clone(),
                    operator: operator.to_owned(),
                    values: Some(vec![value.clone()]),
                });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_new_pod_is_pending_and_knows_its_quality_of_service() {
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {"labels": {"v": "1"}}, "spec": {
            "containers": [{"name": "a"}],
            "topologySpreadConstraints": [{"matchLabelKeys": ["v", "none"], "labelSelector": {}}]}}))
        .expect("a pod");
        prepare_new(&mut pod);
        let status = pod.status.expect("a status");
        assert_eq!(
            (status.phase.as_deref(), status.qos_class.as_deref()),
            (Some("Pending"), Some("BestEffort"))
        );
        let constraints =
            serde_json::to_value(pod.spec.expect("a spec").topology_spread_constraints)
                .expect("JSON");
        assert_eq!(
            constraints[0]["labelSelector"],
            json!({"matchExpressions": [{"key": "v", "operator": "In", "values": ["1"]}]})
        );
    }
}

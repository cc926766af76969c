//! What the scheduler is told: tolerations, gates, spread.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath, label_value_error};
use k8s_openapi::api::core::v1::{PodSchedulingGate, Toleration, TopologySpreadConstraint};

use super::affinity::{label_keys, taint_effect};
use crate::validation::numbers::positive;
use crate::validation::{names, one_of, selectors, text};

pub(crate) fn tolerations(errors: &mut FieldErrors, tolerations: &[Toleration], path: &FieldPath) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let (key, operator) = (text(&toleration.key), text(&toleration.operator));
        let (value, effect) = (text(&toleration.value), text(&toleration.effect));
        if !key.is_empty() {
            names::qualified_name(errors, key, &path.child("key"));
        }
        let operator_path = path.child("operator");
        if key.is_empty() && operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&operator_path, operator, why));
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&path.child("effect"), effect, why));
        }
        match operator {
            "Equal" | "" => {
                errors.extend(
                    label_value_error(value)
                        .map(|why| FieldError::invalid(&operator_path, value, why)),
                );
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&operator_path, value, why));
            }
            "Exists" => {}
            // Comparisons of numbers are behind a gate that is off.
            "Lt" | "Gt" => {
                errors.push(FieldError::not_supported(
                    &operator_path,
                    operator,
                    &["Equal", "Exists", "Lt", "Gt"],
                ));
            }
            _ => errors.push(FieldError::not_supported(
                &operator_path,
                operator,
                &["Equal", "Exists"],
            )),
        }
        if !effect.is_empty() {
            taint_effect(errors, effect, &path.child("effect"));
        }
    }
}

pub(super) fn gates(errors: &mut FieldErrors, gates: &[PodSchedulingGate], path: &FieldPath) {
    let mut seen = BTreeSet::new();
    for (index, gate) in gates.iter().enumerate() {
        let path = path.index(index);
        names::qualified_name(errors, &gate.name, &path);
        if !seen.insert(gate.name.as_str()) {
            errors.push(FieldError::duplicate(&path, gate.name.as_str()));
        }
    }
}

pub(super) fn topology_spread(
    errors: &mut FieldErrors,
    constraints: &[TopologySpreadConstraint],
    path: &FieldPath,
) {
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        positive(errors, constraint.max_skew, &path.child("maxSkew"));
        if constraint.topology_key.is_empty() {
            errors.push(FieldError::required(
                &path.child("topologyKey"),
                "can not be empty",
            ));
        }
        let action = constraint.when_unsatisfiable.as_str();
        one_of(
            errors,
            action,
            &["DoNotSchedule", "ScheduleAnyway"],
            &path.child("whenUnsatisfiable"),
        );
        let same = |other: &TopologySpreadConstraint| {
            other.topology_key == constraint.topology_key
                && other.when_unsatisfiable == constraint.when_unsatisfiable
        };
        if constraints[index + 1..].iter().any(same) {
            let shown = format!("{{{}, {action}}}", constraint.topology_key);
            errors.push(FieldError::duplicate(
                &path.child("{topologyKey, whenUnsatisfiable}"),
                shown,
            ));
        }
        if let Some(domains) = constraint.min_domains {
            positive(errors, domains, &path.child("minDomains"));
            if action != "DoNotSchedule" {
                let why = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                errors.push(FieldError::invalid(&path.child("minDomains"), domains, why));
            }
        }
        for (policy, field) in [
            (&constraint.node_affinity_policy, "nodeAffinityPolicy"),
            (&constraint.node_taints_policy, "nodeTaintsPolicy"),
        ] {
            if let Some(policy) = policy {
                one_of(errors, policy, &["Honor", "Ignore"], &path.child(field));
            }
        }
        let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
        label_keys(errors, keys, &[], constraint.label_selector.as_ref(), &path);
        selectors::label_selector(
            errors,
            constraint.label_selector.as_ref(),
            &path.child("labelSelector"),
        );
    }
}

//! Pod Disruption Budgets of `policy/v1`.

use crate::validation::changes::json;
use crate::validation::numbers::non_negative;
use crate::validation::{amounts, found, one_of, selectors};
use apimachinery::{FieldError, FieldErrors, FieldPath, in_order};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::{Column, Generation, Permission, Strategy, Subresource};

/// Objects of kind `PodDisruptionBudget`.
#[derive(Debug)]
pub struct PodDisruptionBudgets;

impl Strategy for PodDisruptionBudgets {
    type Kind = PodDisruptionBudget;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Min Available", |budget, _| {
            amount(
                budget
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.min_available.as_ref()),
            )
        }),
        Column::text("Max Unavailable", |budget, _| {
            amount(
                budget
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.max_unavailable.as_ref()),
            )
        }),
        Column::integer("Allowed Disruptions", |budget, _| {
            budget
                .status
                .as_ref()
                .and_then(|status| status.disruptions_allowed)
                .unwrap_or(0)
                .into()
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["pdb"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn validate(budget: &PodDisruptionBudget) -> FieldErrors {
        let Some(spec) = &budget.spec else {
            return FieldErrors::none();
        };
        let path = FieldPath::new("spec");
        found(|errors| {
            if spec.min_available.is_some() && spec.max_unavailable.is_some() {
                let shown = in_order(&[
                    ("MinAvailable", json(&spec.min_available)),
                    ("Selector", json(&spec.selector)),
                    ("MaxUnavailable", json(&spec.max_unavailable)),
                    (
                        "UnhealthyPodEvictionPolicy",
                        json(&spec.unhealthy_pod_eviction_policy),
                    ),
                ]);
                let why = "minAvailable and maxUnavailable cannot be both set";
                errors.push(FieldError::invalid(&path, "", why).shown_as(shown));
            }
            for (field, value) in [
                ("minAvailable", &spec.min_available),
                ("maxUnavailable", &spec.max_unavailable),
            ] {
                if let Some(value) = value {
                    amounts::positive_int_or_percent(errors, value, &path.child(field));
                    amounts::at_most_hundred_percent(errors, value, &path.child(field));
                }
            }
            selectors::label_selector(errors, spec.selector.as_ref(), &path.child("selector"));
            if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
                let path = path.child("unhealthyPodEvictionPolicy");
                one_of(errors, policy, &["AlwaysAllow", "IfHealthyBudget"], &path);
            }
        })
    }

    fn validate_status_update(
        budget: &PodDisruptionBudget,
        _old: &PodDisruptionBudget,
    ) -> FieldErrors {
        let status = budget.status.clone().unwrap_or_default();
        let path = FieldPath::new("status");
        found(|errors| {
            for (field, count) in [
                ("disruptionsAllowed", status.disruptions_allowed),
                ("currentHealthy", status.current_healthy),
                ("desiredHealthy", status.desired_healthy),
                ("expectedPods", status.expected_pods),
            ] {
                non_negative(errors, count.unwrap_or(0), &path.child(field));
            }
        })
    }
}

fn amount(value: Option<&IntOrString>) -> Value {
    match value {
        Some(IntOrString::Int(number)) => number.to_string().into(),
        Some(IntOrString::String(text)) => text.clone().into(),
        None => "N/A".into(),
    }
}

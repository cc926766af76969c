//! Pod Disruption Budgets of `policy/v1`.

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
        Column::text("Min Available", |budget, _| amount(budget.spec.as_ref().and_then(|spec| spec.min_available.as_ref()))),
        Column::text("Max Unavailable", |budget, _| amount(budget.spec.as_ref().and_then(|spec| spec.max_unavailable.as_ref()))),
        Column::integer("Allowed Disruptions", |budget, _| budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0).into()),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["pdb"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
}

fn amount(value: Option<&IntOrString>) -> Value {
    match value {
        Some(IntOrString::Int(number)) => number.to_string().into(),
        Some(IntOrString::String(text)) => text.clone().into(),
        None => "N/A".into(),
    }
}

//! Pod Disruption Budgets of `policy/v1`.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::{Generation, Permission, Strategy, Subresource};

/// Objects of kind `PodDisruptionBudget`.
#[derive(Debug)]
pub struct PodDisruptionBudgets;

impl Strategy for PodDisruptionBudgets {
    type Kind = PodDisruptionBudget;
    const SHORT_NAMES: &'static [&'static str] = &["pdb"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
}

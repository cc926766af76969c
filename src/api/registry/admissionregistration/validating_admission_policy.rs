//! Validating Admission Policies of `admissionregistration.k8s.io/v1`.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;

use crate::{Generation, Permission, Strategy, Subresource};
use super::default_match;

/// Objects of kind `ValidatingAdmissionPolicy`.
#[derive(Debug)]
pub struct ValidatingAdmissionPolicies;

impl Strategy for ValidatingAdmissionPolicies {
    type Kind = ValidatingAdmissionPolicy;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(policy: &mut ValidatingAdmissionPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(default_match);
    }
}

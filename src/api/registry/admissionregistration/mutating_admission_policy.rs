//! Mutating Admission Policies of `admissionregistration.k8s.io/v1`.

use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicy;

use crate::{Generation, Permission, Strategy};
use super::default_match;

/// Objects of kind `MutatingAdmissionPolicy`.
#[derive(Debug)]
pub struct MutatingAdmissionPolicies;

impl Strategy for MutatingAdmissionPolicies {
    type Kind = MutatingAdmissionPolicy;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(policy: &mut MutatingAdmissionPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(default_match);
    }
}

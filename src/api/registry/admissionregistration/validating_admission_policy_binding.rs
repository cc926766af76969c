//! Validating Admission Policy Bindings of `admissionregistration.k8s.io/v1`.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;

use crate::{Generation, Permission, Strategy};
use super::default_match;

/// Objects of kind `ValidatingAdmissionPolicyBinding`.
#[derive(Debug)]
pub struct ValidatingAdmissionPolicyBindings;

impl Strategy for ValidatingAdmissionPolicyBindings {
    type Kind = ValidatingAdmissionPolicyBinding;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(binding: &mut ValidatingAdmissionPolicyBinding) {
        binding.spec.match_resources.iter_mut().for_each(default_match);
    }
}

//! Mutating Admission Policy Bindings of `admissionregistration.k8s.io/v1`.

use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding;

use crate::{Generation, Permission, Strategy};
use super::default_match;

/// Objects of kind `MutatingAdmissionPolicyBinding`.
#[derive(Debug)]
pub struct MutatingAdmissionPolicyBindings;

impl Strategy for MutatingAdmissionPolicyBindings {
    type Kind = MutatingAdmissionPolicyBinding;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(binding: &mut MutatingAdmissionPolicyBinding) {
        if let Some(resources) = binding.spec.as_mut().and_then(|spec| spec.match_resources.as_mut()) {
            default_match(resources);
        }
    }
}

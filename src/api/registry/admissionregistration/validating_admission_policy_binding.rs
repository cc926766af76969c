//! Validating Admission Policy Bindings of `admissionregistration.k8s.io/v1`.

use apimachinery::FieldErrors;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;

use super::default_match;
use super::param_ref;
use super::policies;
use crate::validation::found;
use crate::{Column, Generation, Permission, Strategy};

/// Objects of kind `ValidatingAdmissionPolicyBinding`.
#[derive(Debug)]
pub struct ValidatingAdmissionPolicyBindings;

impl Strategy for ValidatingAdmissionPolicyBindings {
    type Kind = ValidatingAdmissionPolicyBinding;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("PolicyName", |binding, _| {
            binding.spec.policy_name.clone().into()
        }),
        Column::text("ParamRef", |binding, _| {
            param_ref(binding.spec.param_ref.as_ref()).into()
        }),
        Column::age(),
    ];
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(binding: &mut ValidatingAdmissionPolicyBinding) {
        binding
            .spec
            .match_resources
            .iter_mut()
            .for_each(default_match);
    }

    fn validate(binding: &ValidatingAdmissionPolicyBinding) -> FieldErrors {
        let spec = &binding.spec;
        found(|errors| {
            policies::binding(
                errors,
                &spec.policy_name,
                spec.param_ref.as_ref(),
                spec.match_resources.as_ref(),
            );
            policies::validation_actions(errors, &spec.validation_actions);
        })
    }
}

//! Mutating Admission Policy Bindings of `admissionregistration.k8s.io/v1`.

use apimachinery::FieldErrors;
use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding;

use super::default_match;
use super::param_ref;
use super::policies;
use crate::validation::{found, path, text};
use crate::{Column, Generation, Permission, Strategy};

/// Objects of kind `MutatingAdmissionPolicyBinding`.
#[derive(Debug)]
pub struct MutatingAdmissionPolicyBindings;

impl Strategy for MutatingAdmissionPolicyBindings {
    type Kind = MutatingAdmissionPolicyBinding;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("PolicyName", |binding, _| {
            binding
                .spec
                .as_ref()
                .and_then(|spec| spec.policy_name.clone())
                .unwrap_or_default()
                .into()
        }),
        Column::text("ParamRef", |binding, _| {
            param_ref(
                binding
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.param_ref.as_ref()),
            )
            .into()
        }),
        Column::age(),
    ];
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(binding: &mut MutatingAdmissionPolicyBinding) {
        if let Some(resources) = binding
            .spec
            .as_mut()
            .and_then(|spec| spec.match_resources.as_mut())
        {
            default_match(resources);
        }
    }

    fn validate(binding: &MutatingAdmissionPolicyBinding) -> FieldErrors {
        let spec = binding.spec.clone().unwrap_or_default();
        let resources = spec.match_resources.as_ref();
        found(|errors| {
            policies::binding(
                errors,
                text(&spec.policy_name),
                spec.param_ref.as_ref(),
                resources,
            );
            let path = path(&["spec", "matchResources"]);
            policies::mutable_operations(errors, resources, &path);
        })
    }
}

//! Mutating Admission Policies of `admissionregistration.k8s.io/v1`.

use apimachinery::FieldErrors;
use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicy;

use super::default_match;
use super::param_kind;
use super::policies;
use crate::validation::found;
use crate::{Column, Generation, Permission, Strategy};

/// Objects of kind `MutatingAdmissionPolicy`.
#[derive(Debug)]
pub struct MutatingAdmissionPolicies;

impl Strategy for MutatingAdmissionPolicies {
    type Kind = MutatingAdmissionPolicy;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Mutations", |policy, _| {
            policy
                .spec
                .as_ref()
                .and_then(|spec| spec.mutations.as_ref())
                .map_or(0, Vec::len)
                .into()
        }),
        Column::text("ParamKind", |policy, _| {
            param_kind(
                policy
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.param_kind.as_ref()),
            )
            .into()
        }),
        Column::age(),
    ];
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(policy: &mut MutatingAdmissionPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(default_match);
    }

    fn validate(policy: &MutatingAdmissionPolicy) -> FieldErrors {
        let spec = policy.spec.clone().unwrap_or_default();
        found(|errors| policies::mutating(errors, &spec))
    }
}

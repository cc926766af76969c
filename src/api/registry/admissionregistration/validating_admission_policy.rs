//! Validating Admission Policies of `admissionregistration.k8s.io/v1`.

use apimachinery::FieldErrors;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;

use super::default_match;
use super::param_kind;
use super::policies;
use crate::status::keep_metadata;
use crate::validation::found;
use crate::{Column, Generation, Permission, StatusMetadata, Strategy, Subresource};

/// Objects of kind `ValidatingAdmissionPolicy`.
#[derive(Debug)]
pub struct ValidatingAdmissionPolicies;

impl Strategy for ValidatingAdmissionPolicies {
    type Kind = ValidatingAdmissionPolicy;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Validations", |policy, _| {
            policy
                .spec
                .as_ref()
                .and_then(|spec| spec.validations.as_ref())
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
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(policy: &mut ValidatingAdmissionPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(default_match);
    }

    fn prepare_for_status_update(
        policy: &mut ValidatingAdmissionPolicy,
        old: &ValidatingAdmissionPolicy,
    ) {
        keep_metadata(&mut policy.metadata, &old.metadata);
    }

    fn validate(policy: &ValidatingAdmissionPolicy) -> FieldErrors {
        let name = policy.metadata.name.as_deref().unwrap_or_default();
        let spec = policy.spec.clone().unwrap_or_default();
        found(|errors| policies::validating(errors, name, &spec))
    }
}

//! Validating Admission Policies of `admissionregistration.k8s.io/v1`.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;

use super::default_match;
use super::param_kind;
use crate::status::keep_metadata;
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
}

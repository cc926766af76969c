//! Resource Claim Templates of `resource.k8s.io/v1`.

use super::validate_claim;
use crate::validation::changes::immutable;
use crate::validation::{found, path};
use apimachinery::FieldErrors;
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;

use super::resource_claim::default_claim_spec;
use crate::{Column, DeleteAnswer, Strategy};

/// Objects of kind `ResourceClaimTemplate`.
#[derive(Debug)]
pub struct ResourceClaimTemplates;

impl Strategy for ResourceClaimTemplates {
    type Kind = ResourceClaimTemplate;
    const COLUMNS: &'static [Column<Self::Kind>] = &[Column::name(), Column::age()];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(template: &mut ResourceClaimTemplate) {
        default_claim_spec(&mut template.spec.spec);
    }

    fn validate(template: &ResourceClaimTemplate) -> FieldErrors {
        found(|errors| validate_claim(errors, &template.spec.spec, &path(&["spec", "spec"])))
    }

    fn validate_update(
        template: &ResourceClaimTemplate,
        old: &ResourceClaimTemplate,
    ) -> FieldErrors {
        found(|errors| immutable(errors, &template.spec, &old.spec, &path(&["spec"])))
    }
}

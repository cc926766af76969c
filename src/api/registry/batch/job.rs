//! Jobs of `batch/v1`.

use k8s_openapi::api::batch::v1::Job;

use crate::{Generation, SelectableField, Strategy, Subresource};

/// Objects of kind `Job`.
#[derive(Debug)]
pub struct Jobs;

impl Strategy for Jobs {
    type Kind = Job;
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::with_fallback("status.successful", &["status.succeeded"], "0"),
    ];
}

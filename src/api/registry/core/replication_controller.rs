//! Replication Controllers of `v1`.

use k8s_openapi::api::core::v1::ReplicationController;

use crate::{Generation, SelectableField, Strategy, Subresource};

/// Objects of kind `ReplicationController`.
#[derive(Debug)]
pub struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    type Kind = ReplicationController;
    const SHORT_NAMES: &'static [&'static str] = &["rc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::with_fallback("status.replicas", &["status.replicas"], "0"),
    ];
}

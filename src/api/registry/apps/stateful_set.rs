//! Stateful Sets of `apps/v1`.

use k8s_openapi::api::apps::v1::StatefulSet;

use crate::{Generation, Strategy, Subresource};

/// Objects of kind `StatefulSet`.
#[derive(Debug)]
pub struct StatefulSets;

impl Strategy for StatefulSets {
    type Kind = StatefulSet;
    const SHORT_NAMES: &'static [&'static str] = &["sts"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
}

//! Daemon Sets of `apps/v1`.

use k8s_openapi::api::apps::v1::DaemonSet;

use crate::{Generation, Strategy, Subresource};

/// Objects of kind `DaemonSet`.
#[derive(Debug)]
pub struct DaemonSets;

impl Strategy for DaemonSets {
    type Kind = DaemonSet;
    const SHORT_NAMES: &'static [&'static str] = &["ds"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
}

//! Deployments of `apps/v1`.

use k8s_openapi::api::apps::v1::Deployment;

use crate::{Generation, Strategy, Subresource};

/// Objects of kind `Deployment`.
#[derive(Debug)]
pub struct Deployments;

impl Strategy for Deployments {
    type Kind = Deployment;
    const SHORT_NAMES: &'static [&'static str] = &["deploy"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
}

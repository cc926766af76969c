//! Horizontal Pod Autoscalers of `autoscaling/v2`.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;

use crate::{Strategy, Subresource};

/// Objects of kind `HorizontalPodAutoscaler`.
#[derive(Debug)]
pub struct HorizontalPodAutoscalers;

impl Strategy for HorizontalPodAutoscalers {
    type Kind = HorizontalPodAutoscaler;
    const SHORT_NAMES: &'static [&'static str] = &["hpa"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
}

//! Flow Schemas of `flowcontrol.apiserver.k8s.io/v1`.

use k8s_openapi::api::flowcontrol::v1::FlowSchema;

use crate::{Generation, Strategy, Subresource};

/// Objects of kind `FlowSchema`.
#[derive(Debug)]
pub struct FlowSchemas;

impl Strategy for FlowSchemas {
    type Kind = FlowSchema;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
}

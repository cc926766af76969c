//! Flow Schemas of `flowcontrol.apiserver.k8s.io/v1`.

use k8s_openapi::api::flowcontrol::v1::FlowSchema;

use crate::{Generation, Strategy, Subresource};

const DEFAULT_PRECEDENCE: i32 = 1000;

/// Objects of kind `FlowSchema`.
#[derive(Debug)]
pub struct FlowSchemas;

impl Strategy for FlowSchemas {
    type Kind = FlowSchema;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;

    fn default(schema: &mut FlowSchema) {
        if let Some(spec) = &mut schema.spec {
            if spec.matching_precedence.unwrap_or(0) == 0 {
                spec.matching_precedence = Some(DEFAULT_PRECEDENCE);
            }
        }
    }
}

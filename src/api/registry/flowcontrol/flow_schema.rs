//! Flow Schemas of `flowcontrol.apiserver.k8s.io/v1`.

use k8s_openapi::api::flowcontrol::v1::FlowSchema;

use crate::status::keep_metadata;
use crate::{Column, Generation, StatusMetadata, Strategy, Subresource};
use crate::cells;

const DEFAULT_PRECEDENCE: i32 = 1000;

/// Objects of kind `FlowSchema`.
#[derive(Debug)]
pub struct FlowSchemas;

impl Strategy for FlowSchemas {
    type Kind = FlowSchema;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("PriorityLevel", |schema, _| {
            schema.spec.as_ref().map(|spec| spec.priority_level_configuration.name.clone()).unwrap_or_default().into()
        }),
        Column::text("MatchingPrecedence", |schema, _| {
            schema.spec.as_ref().and_then(|spec| spec.matching_precedence).unwrap_or(0).into()
        }),
        Column::text("DistinguisherMethod", |schema, _| {
            match schema.spec.as_ref().and_then(|spec| spec.distinguisher_method.as_ref()) {
                Some(method) => method.type_.clone().into(),
                None => cells::NONE.into(),
            }
        }),
        Column::age(),
        Column::text("MissingPL", |schema, _| {
            let conditions = schema.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
            match conditions.iter().find(|condition| condition.type_.as_deref() == Some("Dangling")) {
                Some(condition) => condition.status.clone().unwrap_or_default().into(),
                None => "?".into(),
            }
        }),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;
    const GENERATION: Generation = Generation::Spec;

    fn default(schema: &mut FlowSchema) {
        if let Some(spec) = &mut schema.spec {
            if spec.matching_precedence.unwrap_or(0) == 0 {
                spec.matching_precedence = Some(DEFAULT_PRECEDENCE);
            }
        }
    }

    fn prepare_for_status_update(schema: &mut FlowSchema, old: &FlowSchema) {
        keep_metadata(&mut schema.metadata, &old.metadata);
    }
}

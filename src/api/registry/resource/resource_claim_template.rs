//! Resource Claim Templates of `resource.k8s.io/v1`.

use k8s_openapi::api::resource::v1::ResourceClaimTemplate;

use crate::{Column, DeleteAnswer, Strategy};

/// Objects of kind `ResourceClaimTemplate`.
#[derive(Debug)]
pub struct ResourceClaimTemplates;

impl Strategy for ResourceClaimTemplates {
    type Kind = ResourceClaimTemplate;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::age(),
    ];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

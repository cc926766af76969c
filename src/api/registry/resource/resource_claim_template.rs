//! Resource Claim Templates of `resource.k8s.io/v1`.

use k8s_openapi::api::resource::v1::ResourceClaimTemplate;

use crate::{DeleteAnswer, Strategy};

/// Objects of kind `ResourceClaimTemplate`.
#[derive(Debug)]
pub struct ResourceClaimTemplates;

impl Strategy for ResourceClaimTemplates {
    type Kind = ResourceClaimTemplate;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

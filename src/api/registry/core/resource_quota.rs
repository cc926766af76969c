//! Resource Quotas of `v1`.

use k8s_openapi::api::core::v1::ResourceQuota;

use crate::{DeleteAnswer, Strategy, Subresource};

/// Objects of kind `ResourceQuota`.
#[derive(Debug)]
pub struct ResourceQuotas;

impl Strategy for ResourceQuotas {
    type Kind = ResourceQuota;
    const SHORT_NAMES: &'static [&'static str] = &["quota"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

//! Resource Claims of `resource.k8s.io/v1`.

use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::{DeleteAnswer, Strategy, Subresource};

/// Objects of kind `ResourceClaim`.
#[derive(Debug)]
pub struct ResourceClaims;

impl Strategy for ResourceClaims {
    type Kind = ResourceClaim;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

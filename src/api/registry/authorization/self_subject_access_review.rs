//! Self Subject Access Reviews of `authorization.k8s.io/v1`.

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;

use crate::{Strategy, Verbs};

/// Objects of kind `SelfSubjectAccessReview`.
#[derive(Debug)]
pub struct SelfSubjectAccessReviews;

impl Strategy for SelfSubjectAccessReviews {
    type Kind = SelfSubjectAccessReview;
    const VERBS: Verbs = Verbs::Create;
}

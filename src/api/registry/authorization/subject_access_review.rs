//! Subject Access Reviews of `authorization.k8s.io/v1`.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;

use crate::{Strategy, Verbs};

/// Objects of kind `SubjectAccessReview`.
#[derive(Debug)]
pub struct SubjectAccessReviews;

impl Strategy for SubjectAccessReviews {
    type Kind = SubjectAccessReview;
    const VERBS: Verbs = Verbs::Create;
}

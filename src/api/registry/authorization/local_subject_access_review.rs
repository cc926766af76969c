//! Local Subject Access Reviews of `authorization.k8s.io/v1`.

use k8s_openapi::api::authorization::v1::LocalSubjectAccessReview;

use crate::{Strategy, Verbs};

/// Objects of kind `LocalSubjectAccessReview`.
#[derive(Debug)]
pub struct LocalSubjectAccessReviews;

impl Strategy for LocalSubjectAccessReviews {
    type Kind = LocalSubjectAccessReview;
    const VERBS: Verbs = Verbs::Create;
}

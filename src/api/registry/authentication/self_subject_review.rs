//! Self Subject Reviews of `authentication.k8s.io/v1`.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;

use crate::{Strategy, Verbs};

/// Objects of kind `SelfSubjectReview`.
#[derive(Debug)]
pub struct SelfSubjectReviews;

impl Strategy for SelfSubjectReviews {
    type Kind = SelfSubjectReview;
    const VERBS: Verbs = Verbs::Create;
}

//! Self Subject Rules Reviews of `authorization.k8s.io/v1`.

use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;

use crate::{Strategy, Verbs};

/// Objects of kind `SelfSubjectRulesReview`.
#[derive(Debug)]
pub struct SelfSubjectRulesReviews;

impl Strategy for SelfSubjectRulesReviews {
    type Kind = SelfSubjectRulesReview;
    const VERBS: Verbs = Verbs::Create;
}

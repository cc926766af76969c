//! Token Reviews of `authentication.k8s.io/v1`.

use k8s_openapi::api::authentication::v1::TokenReview;

use crate::{Strategy, Verbs};

/// Objects of kind `TokenReview`.
#[derive(Debug)]
pub struct TokenReviews;

impl Strategy for TokenReviews {
    type Kind = TokenReview;
    const VERBS: Verbs = Verbs::Create;
}

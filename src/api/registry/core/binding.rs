//! Bindings of `v1`.

use k8s_openapi::api::core::v1::Binding;

use crate::{Strategy, Verbs};

/// Objects of kind `Binding`.
#[derive(Debug)]
pub struct Bindings;

impl Strategy for Bindings {
    type Kind = Binding;
    const VERBS: Verbs = Verbs::Create;
}

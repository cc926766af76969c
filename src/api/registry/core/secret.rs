//! Secrets of `v1`.

use k8s_openapi::api::core::v1::Secret;

use crate::{SelectableField, Strategy};

/// Objects of kind `Secret`.
#[derive(Debug)]
pub struct Secrets;

impl Strategy for Secrets {
    type Kind = Secret;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("type", &["type"]),
    ];
}

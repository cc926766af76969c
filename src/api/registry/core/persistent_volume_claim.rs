//! Persistent Volume Claims of `v1`.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::{DeleteAnswer, Strategy, Subresource};

/// Objects of kind `PersistentVolumeClaim`.
#[derive(Debug)]
pub struct PersistentVolumeClaims;

impl Strategy for PersistentVolumeClaims {
    type Kind = PersistentVolumeClaim;
    const SHORT_NAMES: &'static [&'static str] = &["pvc"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

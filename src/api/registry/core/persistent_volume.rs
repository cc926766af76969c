//! Persistent Volumes of `v1`.

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::{DeleteAnswer, Strategy, Subresource};

/// Objects of kind `PersistentVolume`.
#[derive(Debug)]
pub struct PersistentVolumes;

impl Strategy for PersistentVolumes {
    type Kind = PersistentVolume;
    const SHORT_NAMES: &'static [&'static str] = &["pv"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

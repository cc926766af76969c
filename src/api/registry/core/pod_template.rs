//! Pod Templates of `v1`.

use k8s_openapi::api::core::v1::PodTemplate;

use crate::{DeleteAnswer, Generation, Strategy};

/// Objects of kind `PodTemplate`.
#[derive(Debug)]
pub struct PodTemplates;

impl Strategy for PodTemplates {
    type Kind = PodTemplate;
    const GENERATION: Generation = Generation::Content;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

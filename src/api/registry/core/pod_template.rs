//! Pod Templates of `v1`.

use k8s_openapi::api::core::v1::PodTemplate;

use crate::{DeleteAnswer, Generation, Strategy};
use crate::pod_template::default_template;

/// Objects of kind `PodTemplate`.
#[derive(Debug)]
pub struct PodTemplates;

impl Strategy for PodTemplates {
    type Kind = PodTemplate;
    const GENERATION: Generation = Generation::Content;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(object: &mut PodTemplate) {
        object.template.iter_mut().for_each(default_template);
    }
}

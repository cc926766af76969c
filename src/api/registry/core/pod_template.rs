//! Pod Templates of `v1`.

use apimachinery::{FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{Container, PodTemplate};

use crate::cells;
use crate::pod_template::default_template;
use crate::pod_template::validation::template_spec;
use crate::pod_template::warnings::template_warnings;
use crate::validation::found;
use crate::{Column, DeleteAnswer, Generation, Strategy};

/// Objects of kind `PodTemplate`.
#[derive(Debug)]
pub struct PodTemplates;

impl Strategy for PodTemplates {
    type Kind = PodTemplate;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Containers", |object, _| {
            cells::container_names(containers(object))
        }),
        Column::text("Images", |object, _| {
            cells::container_images(containers(object))
        }),
        Column::text("Pod Labels", |object, _| {
            cells::labels(
                object
                    .template
                    .as_ref()
                    .and_then(|template| template.metadata.as_ref()?.labels.as_ref()),
            )
        }),
    ];
    const GENERATION: Generation = Generation::Content;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(object: &mut PodTemplate) {
        object.template.iter_mut().for_each(default_template);
    }

    fn validate(object: &PodTemplate) -> FieldErrors {
        found(|errors| {
            let template = object.template.clone().unwrap_or_default();
            template_spec(errors, &template, &FieldPath::new("template"));
        })
    }

    fn warnings(object: &PodTemplate) -> Vec<String> {
        template_warnings(object.template.as_ref(), &FieldPath::new("template"))
    }
}

fn containers(object: &PodTemplate) -> &[Container] {
    let spec = object
        .template
        .as_ref()
        .and_then(|template| template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

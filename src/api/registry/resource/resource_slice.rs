//! Resource Slices of `resource.k8s.io/v1`.

use k8s_openapi::api::resource::v1::ResourceSlice;

use crate::{DeleteAnswer, Generation, SelectableField, Strategy};

/// Objects of kind `ResourceSlice`.
#[derive(Debug)]
pub struct ResourceSlices;

impl Strategy for ResourceSlices {
    type Kind = ResourceSlice;
    const GENERATION: Generation = Generation::Spec;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("spec.nodeName", &["spec.nodeName"]),
        SelectableField::text("spec.driver", &["spec.driver"]),
    ];
}

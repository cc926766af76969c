//! Resource Slices of `resource.k8s.io/v1`.

use k8s_openapi::api::resource::v1::ResourceSlice;

use crate::{Column, DeleteAnswer, Generation, SelectableField, Strategy};

/// Objects of kind `ResourceSlice`.
#[derive(Debug)]
pub struct ResourceSlices;

impl Strategy for ResourceSlices {
    type Kind = ResourceSlice;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Node", |slice, _| {
            slice.spec.node_name.clone().unwrap_or_default().into()
        }),
        Column::text("Driver", |slice, _| slice.spec.driver.clone().into()),
        Column::text("Pool", |slice, _| slice.spec.pool.name.clone().into()),
        Column::age(),
    ];
    const GENERATION: Generation = Generation::Spec;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("spec.nodeName", &["spec.nodeName"]),
        SelectableField::text("spec.driver", &["spec.driver"]),
    ];
}

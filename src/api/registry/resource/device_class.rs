//! Device Classes of `resource.k8s.io/v1`.

use k8s_openapi::api::resource::v1::DeviceClass;

use crate::{Column, DeleteAnswer, Generation, Strategy};

/// Objects of kind `DeviceClass`.
#[derive(Debug)]
pub struct DeviceClasses;

impl Strategy for DeviceClasses {
    type Kind = DeviceClass;
    const COLUMNS: &'static [Column<Self::Kind>] = &[Column::name(), Column::age()];
    const GENERATION: Generation = Generation::Spec;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

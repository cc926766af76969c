//! Volume Attributes Classes of `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::{Column, DeleteAnswer, Strategy};

/// Objects of kind `VolumeAttributesClass`.
#[derive(Debug)]
pub struct VolumeAttributesClasses;

impl Strategy for VolumeAttributesClasses {
    type Kind = VolumeAttributesClass;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("DriverName", |class, _| class.driver_name.clone().into()),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["vac"];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

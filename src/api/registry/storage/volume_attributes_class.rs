//! Volume Attributes Classes of `storage.k8s.io/v1`.

use super::{MayBeEmpty, parameters};
use crate::validation::changes::immutable;
use crate::validation::{found, names};
use apimachinery::{FieldError, FieldErrors, FieldPath};
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

    fn validate(class: &VolumeAttributesClass) -> FieldErrors {
        found(|errors| {
            let path = FieldPath::new("driverName");
            match class.driver_name.to_lowercase() {
                name if name.is_empty() => errors.push(FieldError::required(&path, "")),
                name => names::qualified_name(errors, &name, &path),
            }
            parameters(
                errors,
                class.parameters.as_ref(),
                MayBeEmpty::No,
                &FieldPath::new("parameters"),
            );
        })
    }

    fn validate_update(class: &VolumeAttributesClass, old: &VolumeAttributesClass) -> FieldErrors {
        found(|errors| {
            immutable(
                errors,
                &class.driver_name,
                &old.driver_name,
                &FieldPath::new("driverName"),
            );
            immutable(
                errors,
                &class.parameters,
                &old.parameters,
                &FieldPath::new("parameters"),
            );
        })
    }
}

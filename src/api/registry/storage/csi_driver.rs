//! CSIDrivers of `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::CSIDriver;

use crate::{DeleteAnswer, Generation, Permission, Strategy};

/// Objects of kind `CSIDriver`.
#[derive(Debug)]
pub struct CSIDrivers;

impl Strategy for CSIDrivers {
    type Kind = CSIDriver;
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

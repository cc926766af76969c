//! CSIStorage Capacities of `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::CSIStorageCapacity;

use crate::{Permission, Strategy};

/// Objects of kind `CSIStorageCapacity`.
#[derive(Debug)]
pub struct CSIStorageCapacities;

impl Strategy for CSIStorageCapacities {
    type Kind = CSIStorageCapacity;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
}

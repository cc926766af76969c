//! CSIStorage Capacities of `storage.k8s.io/v1`.

use crate::validation::amounts::non_negative_quantity;
use crate::validation::changes::immutable;
use crate::validation::selectors::label_selector;
use crate::validation::{found, names};
use apimachinery::{FieldErrors, FieldPath};
use k8s_openapi::api::storage::v1::CSIStorageCapacity;

use crate::{Permission, Strategy};

/// Objects of kind `CSIStorageCapacity`.
#[derive(Debug)]
pub struct CSIStorageCapacities;

impl Strategy for CSIStorageCapacities {
    type Kind = CSIStorageCapacity;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn validate(capacity: &CSIStorageCapacity) -> FieldErrors {
        found(|errors| {
            let path = FieldPath::new("nodeTopology");
            label_selector(errors, capacity.node_topology.as_ref(), &path);
            let path = FieldPath::new("storageClassName");
            names::dns_subdomain(errors, &capacity.storage_class_name, &path);
            let amounts = [
                ("capacity", &capacity.capacity),
                ("maximumVolumeSize", &capacity.maximum_volume_size),
            ];
            for (field, amount) in amounts {
                if let Some(amount) = amount {
                    non_negative_quantity(errors, amount, &FieldPath::new(field));
                }
            }
        })
    }

    fn validate_update(capacity: &CSIStorageCapacity, old: &CSIStorageCapacity) -> FieldErrors {
        found(|errors| {
            immutable(
                errors,
                &capacity.node_topology,
                &old.node_topology,
                &FieldPath::new("nodeTopology"),
            );
            let path = FieldPath::new("storageClassName");
            immutable(
                errors,
                &capacity.storage_class_name,
                &old.storage_class_name,
                &path,
            );
        })
    }
}

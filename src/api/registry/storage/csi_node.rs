//! CSINodes of `storage.k8s.io/v1`.

use crate::validation::changes::immutable;
use crate::validation::numbers::non_negative;
use crate::validation::{found, names, path};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::api::storage::v1::CSINodeDriver;
use std::collections::BTreeSet;

use crate::{Column, DeleteAnswer, Permission, Strategy};

/// Objects of kind `CSINode`.
#[derive(Debug)]
pub struct CSINodes;

impl Strategy for CSINodes {
    type Kind = CSINode;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Drivers", |node, _| node.spec.drivers.len().into()),
        Column::age(),
    ];
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn validate(node: &CSINode) -> FieldErrors {
        let mut taken = BTreeSet::new();
        found(|errors| {
            for (index, driver) in node.spec.drivers.iter().enumerate() {
                let path = path(&["spec", "drivers"]).index(index);
                names::csi_driver(errors, &driver.name, &path.child("name"));
                let id_path = path.child("nodeID");
                match driver.node_id.len() {
                    0 => errors.push(FieldError::required(&id_path, "")),
                    length if length > NODE_ID_CHARACTERS_MAX => {
                        let why = format!("must be {NODE_ID_CHARACTERS_MAX} characters or less");
                        errors.push(FieldError::invalid(&id_path, driver.node_id.as_str(), why));
                    }
                    _ => (),
                }
                if let Some(count) = driver
                    .allocatable
                    .as_ref()
                    .and_then(|allocatable| allocatable.count)
                {
                    non_negative(errors, count, &path.child("allocatable").child("count"));
                }
                if !taken.insert(&driver.name) {
                    errors.push(FieldError::duplicate(
                        &path.child("name"),
                        driver.name.as_str(),
                    ));
                }
                topology_keys(
                    errors,
                    driver.topology_keys.as_deref().unwrap_or_default(),
                    &path,
                );
            }
        })
    }

    /// Of a driver that stays only the number of volumes may change.
    fn validate_update(node: &CSINode, old: &CSINode) -> FieldErrors {
        let fixed = |driver: &CSINodeDriver| CSINodeDriver {
            allocatable: None,
            ..driver.clone()
        };
        found(|errors| {
            for old in &old.spec.drivers {
                for new in node.spec.drivers.iter().filter(|new| new.name == old.name) {
                    immutable(
                        errors,
                        &fixed(new),
                        &fixed(old),
                        &path(&["spec", "drivers"]),
                    );
                }
            }
        })
    }
}

const NODE_ID_CHARACTERS_MAX: usize = 256;

fn topology_keys(errors: &mut FieldErrors, keys: &[String], path: &FieldPath) {
    let mut taken = BTreeSet::new();
    for key in keys {
        if key.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
        if !taken.insert(key) {
            errors.push(FieldError::duplicate(path, key.as_str()));
        }
        names::qualified_name(errors, key, path);
    }
}

//! CSINodes of `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::CSINode;

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
}

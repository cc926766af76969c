//! Runtime Classes of `node.k8s.io/v1`.

use k8s_openapi::api::node::v1::RuntimeClass;

use crate::{Column, Permission, Strategy};

/// Objects of kind `RuntimeClass`.
#[derive(Debug)]
pub struct RuntimeClasses;

impl Strategy for RuntimeClasses {
    type Kind = RuntimeClass;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Handler", |class, _| class.handler.clone().into()),
        Column::age(),
    ];
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
}

//! Leases of `coordination.k8s.io/v1`.

use k8s_openapi::api::coordination::v1::Lease;

use crate::{Column, Permission, Retention, Strategy};

/// Objects of kind `Lease`.
#[derive(Debug)]
pub struct Leases;

impl Strategy for Leases {
    type Kind = Lease;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Holder", |lease, _| {
            lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default().into()
        }),
        Column::age(),
    ];
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
    const RETENTION: Retention = Retention::Relaxed;
}

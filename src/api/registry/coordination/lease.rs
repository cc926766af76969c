//! Leases of `coordination.k8s.io/v1`.

use k8s_openapi::api::coordination::v1::Lease;

use crate::{Permission, Retention, Strategy};

/// Objects of kind `Lease`.
#[derive(Debug)]
pub struct Leases;

impl Strategy for Leases {
    type Kind = Lease;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
    const RETENTION: Retention = Retention::Relaxed;
}

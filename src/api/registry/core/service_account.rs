//! Service Accounts of `v1`.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::{Column, DeleteAnswer, Strategy, Subresource};

/// Objects of kind `ServiceAccount`.
#[derive(Debug)]
pub struct ServiceAccounts;

impl Strategy for ServiceAccounts {
    type Kind = ServiceAccount;
    const COLUMNS: &'static [Column<Self::Kind>] = &[Column::name(), Column::age()];
    const SHORT_NAMES: &'static [&'static str] = &["sa"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Token];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

//! Endpoints of `v1`.

use crate::{Permission, Strategy};

/// Objects of kind `Endpoints`.
#[derive(Debug)]
pub struct Endpoints;

impl Strategy for Endpoints {
    type Kind = k8s_openapi::api::core::v1::Endpoints;
    const SHORT_NAMES: &'static [&'static str] = &["ep"];
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
}

//! Limit Ranges of `v1`.

use k8s_openapi::api::core::v1::LimitRange;

use crate::{Permission, Strategy};

/// Objects of kind `LimitRange`.
#[derive(Debug)]
pub struct LimitRanges;

impl Strategy for LimitRanges {
    type Kind = LimitRange;
    const SHORT_NAMES: &'static [&'static str] = &["limits"];
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
}

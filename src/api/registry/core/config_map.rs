//! Config Maps of `v1`.

use k8s_openapi::api::core::v1::ConfigMap;

use crate::Strategy;

/// Objects of kind `ConfigMap`.
#[derive(Debug)]
pub struct ConfigMaps;

impl Strategy for ConfigMaps {
    type Kind = ConfigMap;
    const SHORT_NAMES: &'static [&'static str] = &["cm"];
}

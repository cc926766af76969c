//! IPAddresses of `networking.k8s.io/v1`.

use k8s_openapi::api::networking::v1::IPAddress;

use crate::Strategy;

/// Objects of kind `IPAddress`.
#[derive(Debug)]
pub struct IPAddresses;

impl Strategy for IPAddresses {
    type Kind = IPAddress;
    const SHORT_NAMES: &'static [&'static str] = &["ip"];
}

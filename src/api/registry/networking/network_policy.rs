//! Network Policies of `networking.k8s.io/v1`.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::{Generation, Strategy};

/// Objects of kind `NetworkPolicy`.
#[derive(Debug)]
pub struct NetworkPolicies;

impl Strategy for NetworkPolicies {
    type Kind = NetworkPolicy;
    const SHORT_NAMES: &'static [&'static str] = &["netpol"];
    const GENERATION: Generation = Generation::Spec;
}

//! Service CIDRs of `networking.k8s.io/v1`.

use k8s_openapi::api::networking::v1::ServiceCIDR;

use crate::{Strategy, Subresource};

/// Objects of kind `ServiceCIDR`.
#[derive(Debug)]
pub struct ServiceCIDRs;

impl Strategy for ServiceCIDRs {
    type Kind = ServiceCIDR;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
}

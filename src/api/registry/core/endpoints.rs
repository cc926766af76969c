//! Endpoints of `v1`.

use crate::{Permission, Strategy};
use crate::pod_template::default_text;

/// Objects of kind `Endpoints`.
#[derive(Debug)]
pub struct Endpoints;

impl Strategy for Endpoints {
    type Kind = k8s_openapi::api::core::v1::Endpoints;
    const SHORT_NAMES: &'static [&'static str] = &["ep"];
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;

    fn default(endpoints: &mut Self::Kind) {
        for subset in endpoints.subsets.iter_mut().flatten() {
            for port in subset.ports.iter_mut().flatten() {
                default_text(&mut port.protocol, "TCP");
            }
        }
    }
}

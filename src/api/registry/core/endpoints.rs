//! Endpoints of `v1`.

use crate::{Column, Permission, Strategy};
use crate::cells;
use crate::pod_template::default_text;

/// Objects of kind `Endpoints`.
#[derive(Debug)]
pub struct Endpoints;

impl Strategy for Endpoints {
    type Kind = k8s_openapi::api::core::v1::Endpoints;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Endpoints", |endpoints, _| cells::text_or(cells::with_more(&addresses(endpoints)).as_deref(), cells::NONE)),
        Column::age(),
    ];
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

/// Every ready address with every port.
fn addresses(endpoints: &k8s_openapi::api::core::v1::Endpoints) -> Vec<String> {
    let mut listed = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ips = || subset.addresses.iter().flatten().map(|address| address.ip.as_str());
        let ports = subset.ports.as_deref().unwrap_or_default();
        if ports.is_empty() {
            listed.extend(ips().map(str::to_owned));
        }
        for port in ports {
            listed.extend(ips().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{}", port.port),
                false => format!("{ip}:{}", port.port),
            }));
        }
    }
    listed
}

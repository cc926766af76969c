//! Endpoints of `v1`.

use crate::cells;
use crate::pod_template::default_text;
use crate::validation::{addresses, found, names, ports, required_one_of, text};
use crate::{Column, Permission, Strategy};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort};

/// Objects of kind `Endpoints`.
#[derive(Debug)]
pub struct Endpoints;

impl Strategy for Endpoints {
    type Kind = k8s_openapi::api::core::v1::Endpoints;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Endpoints", |endpoints, _| {
            cells::text_or(
                cells::with_more(&addresses(endpoints)).as_deref(),
                cells::NONE,
            )
        }),
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

    fn validate_create(endpoints: &Self::Kind) -> FieldErrors {
        subsets(endpoints)
    }

    /// What stood before the rules were tightened may stay.
    fn validate_update(endpoints: &Self::Kind, old: &Self::Kind) -> FieldErrors {
        if endpoints.subsets == old.subsets {
            FieldErrors::none()
        } else {
            subsets(endpoints)
        }
    }
}

/// Every ready address with every port.
fn addresses(endpoints: &k8s_openapi::api::core::v1::Endpoints) -> Vec<String> {
    let mut listed = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ips = || {
            subset
                .addresses
                .iter()
                .flatten()
                .map(|address| address.ip.as_str())
        };
        let ports = subset.ports.as_deref().unwrap_or_default();
        if ports.is_empty() {
            listed.extend(ips().map(str::to_owned));
        }
        for port in ports {
            listed.extend(ips().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{}", port.port)
                } else {
                    format!("{ip}:{}", port.port)
                }
            }));
        }
    }
    listed
}

fn subsets(endpoints: &k8s_openapi::api::core::v1::Endpoints) -> FieldErrors {
    let path = FieldPath::new("subsets");
    found(|errors| {
        for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
            let path = path.index(index);
            let ready = subset.addresses.as_deref().unwrap_or_default();
            let unready = subset.not_ready_addresses.as_deref().unwrap_or_default();
            if ready.is_empty() && unready.is_empty() {
                errors.push(FieldError::required(
                    &path,
                    "must specify `addresses` or `notReadyAddresses`",
                ));
            }
            for (field, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
                for (index, address) in addresses.iter().enumerate() {
                    one_address(errors, address, &path.child(field).index(index));
                }
            }
            let ports = subset.ports.as_deref().unwrap_or_default();
            for (index, port) in ports.iter().enumerate() {
                one_port(
                    errors,
                    port,
                    ports.len() > 1,
                    &path.child("ports").index(index),
                );
            }
        }
    })
}

fn one_address(errors: &mut FieldErrors, address: &EndpointAddress, path: &FieldPath) {
    addresses::legacy_ip(errors, &address.ip, &path.child("ip"), &[]);
    if !text(&address.hostname).is_empty() {
        names::dns_label(errors, text(&address.hostname), &path.child("hostname"));
    }
    if let Some(node) = &address.node_name {
        names::dns_subdomain(errors, node, &path.child("nodeName"));
    }
    addresses::endpoint_ip(errors, &address.ip, &path.child("ip"));
}

fn one_port(errors: &mut FieldErrors, port: &EndpointPort, must_have_name: bool, path: &FieldPath) {
    match text(&port.name) {
        "" if must_have_name => errors.push(FieldError::required(&path.child("name"), "")),
        "" => (),
        name => names::dns_label(errors, name, &path.child("name")),
    }
    ports::number(errors, port.port, &path.child("port"));
    required_one_of(
        errors,
        text(&port.protocol),
        &ports::PROTOCOLS,
        &path.child("protocol"),
    );
    if let Some(protocol) = &port.app_protocol {
        names::qualified_name(errors, protocol, &path.child("appProtocol"));
    }
}

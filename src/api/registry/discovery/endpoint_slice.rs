//! Endpoint Slices of `discovery.k8s.io/v1`.

use crate::pod_template::warnings::unusual_address;
use crate::validation::changes::immutable;
use crate::validation::{addresses, found, names, one_of, ports, required_one_of, text};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use std::collections::BTreeSet;

use crate::cells;
use crate::{Column, Generation, Strategy};

/// Objects of kind `EndpointSlice`.
#[derive(Debug)]
pub struct EndpointSlices;

impl Strategy for EndpointSlices {
    type Kind = EndpointSlice;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("AddressType", |slice, _| slice.address_type.clone().into()),
        Column::text("Ports", |slice, _| {
            cells::text_or(cells::with_more(&ports(slice)).as_deref(), cells::UNSET)
        }),
        Column::text("Endpoints", |slice, _| {
            cells::text_or(cells::with_more(&addresses(slice)).as_deref(), cells::UNSET)
        }),
        Column::age(),
    ];
    const GENERATION: Generation = Generation::Content;

    fn default(slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn prepare_for_update(slice: &mut EndpointSlice, old: &EndpointSlice) {
        if slice.metadata.labels != old.metadata.labels {
            slice.metadata.generation = old.metadata.generation.map(|generation| generation + 1);
        }
    }

    fn validate_create(slice: &EndpointSlice) -> FieldErrors {
        let mut errors = address_type_and_ports(slice);
        errors.extend(endpoints(slice));
        errors
    }

    /// Endpoints that stood before the rules were tightened may stay.
    fn validate_update(slice: &EndpointSlice, old: &EndpointSlice) -> FieldErrors {
        let mut errors = address_type_and_ports(slice);
        if slice.endpoints != old.endpoints {
            errors.extend(endpoints(slice));
        }
        immutable(
            &mut errors,
            &slice.address_type,
            &old.address_type,
            &FieldPath::new("addressType"),
        );
        errors
    }

    fn warnings(slice: &EndpointSlice) -> Vec<String> {
        let mut warnings = Vec::new();
        for (index, endpoint) in slice.endpoints.iter().flatten().enumerate() {
            let path = FieldPath::new("endpoints").index(index).child("addresses");
            for (index, address) in endpoint.addresses.iter().enumerate() {
                unusual_address(&mut warnings, address, &path.index(index));
            }
        }
        warnings
    }
}

fn ports(slice: &EndpointSlice) -> Vec<String> {
    let text = |port: &EndpointPort| match port.port {
        Some(number) => number.to_string(),
        None => port.name.clone().unwrap_or_else(|| "*".to_owned()),
    };
    slice.ports.iter().flatten().map(text).collect()
}

fn addresses(slice: &EndpointSlice) -> Vec<String> {
    slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| endpoint.addresses.iter().cloned())
        .collect()
}

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_LABELS_MAX: usize = 16;
const HINTS_MAX: usize = 8;

fn address_type_and_ports(slice: &EndpointSlice) -> FieldErrors {
    found(|errors| {
        required_one_of(
            errors,
            &slice.address_type,
            &["FQDN", "IPv4", "IPv6"],
            &FieldPath::new("addressType"),
        );
        let all = slice.ports.as_deref().unwrap_or_default();
        let path = FieldPath::new("ports");
        if all.len() > PORTS_MAX {
            errors.push(FieldError::too_many(&path, all.len(), PORTS_MAX));
            return;
        }
        let mut taken = BTreeSet::new();
        for (index, port) in all.iter().enumerate() {
            let path = path.index(index);
            let name = text(&port.name);
            if !name.is_empty() {
                names::dns_label(errors, name, &path.child("name"));
            }
            if !taken.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            match &port.protocol {
                None => errors.push(FieldError::required(&path.child("protocol"), "")),
                Some(protocol) => {
                    one_of(errors, protocol, &ports::PROTOCOLS, &path.child("protocol"));
                }
            }
            if let Some(protocol) = &port.app_protocol {
                names::qualified_name(errors, protocol, &path.child("appProtocol"));
            }
        }
    })
}

fn endpoints(slice: &EndpointSlice) -> FieldErrors {
    let all = slice.endpoints.as_deref().unwrap_or_default();
    let path = FieldPath::new("endpoints");
    found(|errors| {
        if all.len() > ENDPOINTS_MAX {
            errors.push(FieldError::too_many(&path, all.len(), ENDPOINTS_MAX));
            return;
        }
        for (index, endpoint) in all.iter().enumerate() {
            one_endpoint(errors, endpoint, &slice.address_type, &path.index(index));
        }
    })
}

fn one_endpoint(
    errors: &mut FieldErrors,
    endpoint: &Endpoint,
    address_type: &str,
    path: &FieldPath,
) {
    let addresses_path = path.child("addresses");
    match endpoint.addresses.len() {
        0 => errors.push(FieldError::required(
            &addresses_path,
            "must contain at least 1 address",
        )),
        count if count > ADDRESSES_MAX => {
            errors.push(FieldError::too_many(&addresses_path, count, ADDRESSES_MAX));
        }
        _ => (),
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        one_address(errors, address, address_type, &addresses_path, index);
    }
    if let Some(node) = &endpoint.node_name {
        names::dns_subdomain(errors, node, &path.child("nodeName"));
    }
    let topology_path = path.child("deprecatedTopology");
    if let Some(topology) = endpoint
        .deprecated_topology
        .as_ref()
        .filter(|labels| labels.len() > TOPOLOGY_LABELS_MAX)
    {
        errors.push(FieldError::too_many(
            &topology_path,
            topology.len(),
            TOPOLOGY_LABELS_MAX,
        ));
    }
    names::labels(
        errors,
        endpoint.deprecated_topology.as_ref(),
        &topology_path,
    );
    if let Some(host) = &endpoint.hostname {
        names::dns_label(errors, host, &path.child("hostname"));
    }
    if let Some(endpoint_hints) = &endpoint.hints {
        hints(errors, endpoint_hints, &path.child("hints"));
    }
}

fn one_address(
    errors: &mut FieldErrors,
    address: &str,
    address_type: &str,
    list: &FieldPath,
    index: usize,
) {
    let path = list.index(index);
    let refused = found(|errors| match address_type {
        "IPv4" => addresses::legacy_ip(errors, address, &path, &[]),
        "IPv6" => addresses::ip(errors, address, &path),
        "FQDN" => names::fully_qualified_domain(errors, address, &path),
        _ => (),
    });
    let is_ip = matches!(address_type, "IPv4" | "IPv6");
    if refused.is_empty() && is_ip {
        if addresses::is_ipv6(address) != (address_type == "IPv6") {
            errors.push(FieldError::invalid(
                list,
                address,
                format!("must be an {address_type} address"),
            ));
        }
        addresses::endpoint_ip(errors, address, &path);
    }
    errors.extend(refused);
}

fn hints(errors: &mut FieldErrors, hints: &EndpointHints, path: &FieldPath) {
    let zones: Vec<&str> = hints
        .for_zones
        .iter()
        .flatten()
        .map(|zone| zone.name.as_str())
        .collect();
    let nodes: Vec<&str> = hints
        .for_nodes
        .iter()
        .flatten()
        .map(|node| node.name.as_str())
        .collect();
    let rules: [(&str, Vec<&str>, fn(&mut FieldErrors, &str, &FieldPath)); 2] = [
        ("forZones", zones, names::label_value),
        ("forNodes", nodes, names::dns_subdomain),
    ];
    for (field, hinted, rule) in rules {
        let path = path.child(field);
        if hinted.len() > HINTS_MAX {
            errors.push(FieldError::too_many(&path, hinted.len(), HINTS_MAX));
            return;
        }
        let mut taken = BTreeSet::new();
        for (index, name) in hinted.into_iter().enumerate() {
            let path = path.index(index).child("name");
            if !taken.insert(name) {
                errors.push(FieldError::duplicate(&path, name));
            }
            rule(errors, name, &path);
        }
    }
}

//! Which names and addresses a server answers to.

use std::net::IpAddr;

use bootstrap::ServingNames;
use config::ServerConfig;
use pki::SubjectNames;

use crate::server_addresses::ServerAddresses;

const LOOPBACK_NAMES: [&str; 1] = ["localhost"];

/// The names in the certificates of the API server and of the kubelet.
pub(crate) fn serving_names(
    config: &ServerConfig,
    addresses: &ServerAddresses,
    host_name: &str,
) -> ServingNames {
    let advertised = addresses.advertised().address.ip();
    let mut api_server = SubjectNames {
        dns_names: vec![
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            format!("kubernetes.default.svc.{}", config.cluster_domain),
            host_name.to_lowercase(),
        ],
        addresses: vec![
            advertised,
            first_address(config),
            IpAddr::from([127, 0, 0, 1]),
            "::1".parse().expect("an address"),
        ],
    };
    api_server
        .dns_names
        .extend(LOOPBACK_NAMES.map(str::to_owned));
    api_server.addresses.extend(addresses.all());
    for name in &config.tls_san {
        match name.parse() {
            Ok(address) => api_server.addresses.push(address),
            Err(_not_an_address) => api_server.dns_names.push(name.clone()),
        }
    }
    api_server.dns_names.sort();
    api_server.dns_names.dedup();
    api_server.addresses.sort();
    api_server.addresses.dedup();
    let kubelet = config.node.as_ref().map(|node| {
        let names = SubjectNames {
            dns_names: vec![node.name.clone(), "localhost".to_owned()],
            addresses: vec![
                addresses.node().unwrap_or(advertised),
                IpAddr::from([127, 0, 0, 1]),
            ],
        };
        (node.name.clone(), names)
    });
    ServingNames {
        api_server,
        kubelet,
    }
}

/// The first address of the Services: that of `kubernetes.default`.
pub(crate) fn first_address(config: &ServerConfig) -> IpAddr {
    match config.network.service_cidr().network() {
        IpAddr::V4(first) => IpAddr::V4((u32::from(first) + 1).into()),
        IpAddr::V6(first) => IpAddr::V6((u128::from(first) + 1).into()),
    }
}

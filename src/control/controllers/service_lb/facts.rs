//! What decides which addresses a Service gets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use apimachinery::{ObjectKey, StoredObject};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// k3s' names of the labels, and our own.
const ENABLED_LABELS: [&str; 2] = ["svccontroller.k3s.cattle.io/enablelb", "combo.io/enablelb"];
const POOL_LABELS: [&str; 2] = ["svccontroller.k3s.cattle.io/lbpool", "combo.io/lbpool"];
/// A node in several pools has a label `<prefix><pool>: "true"` for each.
const POOL_PREFIXES: [&str; 2] = ["lbpool.svccontroller.k3s.cattle.io/", "lbpool.combo.io/"];

/// A port on an address of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) protocol: String,
    pub(super) number: i32,
}

/// A Service that is ours to balance.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BalancedService {
    pub(super) key: ObjectKey,
    pub(super) created: Option<Time>,
    pub(super) has_address: bool,
    pub(super) ports: Vec<Port>,
    pub(super) pool: Option<String>,
    /// In the Service's order: is it IPv4?
    pub(super) families: Vec<bool>,
    /// External traffic goes to endpoints of the same node only.
    pub(super) only_where_endpoints_are: bool,
    /// Filled in only for such a Service.
    pub(super) nodes_with_endpoints: BTreeSet<String>,
}

/// A node as an entrance to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BalancingNode {
    pub(super) name: String,
    pub(super) is_ready: bool,
    /// Once one node of the cluster is enabled, the others are not asked any more.
    pub(super) is_enabled: bool,
    pub(super) pools: BTreeSet<String>,
    pub(super) external: Vec<IpAddr>,
    pub(super) internal: Vec<IpAddr>,
    pub(super) kubelet_port: Option<i32>,
}

/// Ports of nodes that the cluster itself lives by, and whose they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserved(pub(super) BTreeMap<(IpAddr, Port), &'static str>);

impl BalancedService {
    /// Nothing for a Service of another type, or with a class: that one is for another load balancer.
    pub(super) fn of(stored: &StoredObject) -> Option<Self> {
        let service: Service = stored.decode().ok()?;
        let spec = service.spec?;
        if spec.type_.as_deref() != Some("LoadBalancer") || spec.load_balancer_class.is_some() {
            return None;
        }
        let status = service.status.and_then(|status| status.load_balancer);
        let ingress = status.and_then(|balancer| balancer.ingress);
        let ports = spec.ports.into_iter().flatten().map(|port| Port {
            protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
            number: port.port,
        });
        let families = spec.ip_families.into_iter().flatten();
        let label = |key: &&str| stored.index.label(key);
        Some(Self {
            key: stored.key().clone(),
            created: service.metadata.creation_timestamp,
            has_address: ingress.is_some_and(|ingress| !ingress.is_empty()),
            ports: ports.collect(),
            pool: POOL_LABELS.iter().find_map(label).map(str::to_owned),
            families: families.map(|family| family != "IPv6").collect(),
            only_where_endpoints_are: spec.external_traffic_policy.as_deref() == Some("Local"),
            nodes_with_endpoints: BTreeSet::new(),
        })
    }
}

impl BalancingNode {
    pub(super) fn of(stored: &StoredObject) -> Option<Self> {
        let node: Node = stored.decode().ok()?;
        let status = node.status.unwrap_or_default();
        let of_type = |wanted: &str| {
            let addresses = status.addresses.iter().flatten();
            addresses
                .filter(|address| address.type_ == wanted)
                .filter_map(|address| address.address.parse().ok())
                .collect()
        };
        let mut conditions = status.conditions.iter().flatten();
        let kubelet = status.daemon_endpoints.as_ref();
        let kubelet = kubelet.and_then(|endpoints| endpoints.kubelet_endpoint.as_ref());
        let label = |key: &&str| stored.index.label(key);
        let mut pools: BTreeSet<String> = POOL_LABELS
            .iter()
            .filter_map(label)
            .map(str::to_owned)
            .collect();
        let member = stored
            .index
            .labels
            .iter()
            .filter(|(_, value)| &**value == "true");
        pools.extend(member.filter_map(|(key, _)| {
            let mut prefixes = POOL_PREFIXES.iter();
            prefixes.find_map(|prefix| key.strip_prefix(prefix).map(str::to_owned))
        }));
        Some(Self {
            name: stored.key().name.clone(),
            is_ready: conditions.any(|known| known.type_ == "Ready" && known.status == "True"),
            is_enabled: ENABLED_LABELS
                .iter()
                .filter_map(label)
                .any(|value| value == "true"),
            pools,
            external: of_type("ExternalIP"),
            internal: of_type("InternalIP"),
            kubelet_port: kubelet.map(|endpoint| endpoint.port),
        })
    }

    /// The addresses of one family that clients come to.
    pub(super) fn entrances(&self, is_v4: bool) -> Vec<IpAddr> {
        let of_family = |addresses: &[IpAddr]| -> Vec<IpAddr> {
            let addresses = addresses.iter().copied();
            addresses
                .filter(|address| address.is_ipv4() == is_v4)
                .collect()
        };
        let external = of_family(&self.external);
        if external.is_empty() {
            of_family(&self.internal)
        } else {
            external
        }
    }
}

impl Reserved {
    pub(super) fn of(nodes: &[BalancingNode], slices_of_api_servers: &[StoredObject]) -> Self {
        let mut reserved = Self::default();
        for slice in slices_of_api_servers {
            let Ok(slice) = slice.decode::<EndpointSlice>() else {
                continue;
            };
            let endpoints = slice.endpoints.iter().flatten();
            for address in endpoints.flat_map(|endpoint| &endpoint.addresses) {
                for port in slice.ports.iter().flatten() {
                    if let (Ok(address), Some(number)) = (address.parse(), port.port) {
                        reserved.put(address, number, "the API server");
                    }
                }
            }
        }
        for node in nodes {
            for address in node.internal.iter().chain(&node.external) {
                if let Some(number) = node.kubelet_port {
                    reserved.put(*address, number, "the kubelet");
                }
            }
        }
        reserved
    }

    pub(super) fn put(&mut self, address: IpAddr, number: i32, owner: &'static str) {
        let protocol = "TCP".to_owned();
        let port = Port { protocol, number };
        self.0.insert((address, port), owner);
    }
}

/// Nodes with endpoints that take traffic.
pub(super) fn nodes_with_endpoints(slices: &[StoredObject]) -> BTreeSet<String> {
    let slices = slices.iter();
    let slices = slices.filter_map(|slice| slice.decode::<EndpointSlice>().ok());
    let endpoints = slices.flat_map(|slice| slice.endpoints.unwrap_or_default());
    let ready = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|known| known.ready).unwrap_or(true)
    });
    ready.filter_map(|endpoint| endpoint.node_name).collect()
}

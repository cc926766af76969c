//! What the proxy needs to know of Services, `EndpointSlices` and pods, and nothing else of them.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// A Service or slice with this label belongs to another proxy.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "None";
const AFFINITY_SECONDS_DEFAULT: u32 = 10_800;

/// The node that the proxy serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    pub name: String,
    /// The node's `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// The pod ranges of the whole cluster. Traffic from elsewhere to a Service is masqueraded, and so is traffic of pods
    /// to the world.
    pub cluster_cidrs: Vec<IpNet>,
}

/// Everything that should be in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    pub services: BTreeMap<ServiceName, ServiceFacts>,
    /// By Service and by the slice's own name.
    pub slices: BTreeMap<(ServiceName, String), SliceFacts>,
    /// By the pod's UID.
    pub host_ports: BTreeMap<String, Vec<HostPort>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficPolicy {
    Cluster,
    Local,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Ingress addresses of a load balancer that delivers packets unchanged (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty: everybody.
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// Session affinity by client address holds this many seconds after the last connection.
    pub affinity_seconds: Option<u32>,
    pub internal_traffic: TrafficPolicy,
    pub external_traffic: TrafficPolicy,
    pub ports: Vec<PortFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFacts {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceFacts {
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<EndpointFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointFacts {
    pub address: IpAddr,
    pub locality: Locality,
    pub state: EndpointState,
    pub node_hint: Hint,
    pub zone_hint: Hint,
}

/// Where an endpoint runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locality {
    /// On this node.
    Here,
    Elsewhere,
    /// The slice does not say, as those that people write.
    Unknown,
}

/// Ordered by preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointState {
    Unusable,
    /// Shutting down, but it still answers: better than nothing.
    ServingTerminating,
    Ready,
}

/// What a slice says about who should use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    Absent,
    Us,
    Others,
}

/// A `hostPort` of a pod on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Nothing: every address of the node but those of `lo`.
    pub host_ip: Option<IpAddr>,
    pub protocol: Protocol,
    pub host_port: u16,
    pub pod_ip: IpAddr,
    pub container_port: u16,
}

impl Protocol {
    /// The number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

impl ServiceName {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl ServiceFacts {
    /// The facts of a Service that has an address of its own; nothing for headless ones, `ExternalName`, and those of
    /// another proxy.
    pub fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let foreign = service
            .metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(PROXY_NAME_LABEL));
        if foreign
            || spec.type_.as_deref() == Some("ExternalName")
            || spec.cluster_ip.as_deref() == Some(HEADLESS)
        {
            return None;
        }
        let cluster_ips = addresses(spec.cluster_ips.as_deref().unwrap_or_default());
        if cluster_ips.is_empty() {
            return None;
        }
        let ranges = spec
            .load_balancer_source_ranges
            .as_deref()
            .unwrap_or_default();
        Some(Self {
            cluster_ips,
            external_ips: addresses(spec.external_ips.as_deref().unwrap_or_default()),
            load_balancer_ips: load_balancer_ips(service),
            load_balancer_source_ranges: ranges
                .iter()
                .filter_map(|range| range.trim().parse().ok())
                .collect(),
            affinity_seconds: (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
                let config = spec
                    .session_affinity_config
                    .as_ref()
                    .and_then(|config| config.client_ip.as_ref());
                let seconds = config.and_then(|config| config.timeout_seconds);
                seconds
                    .and_then(|seconds| u32::try_from(seconds).ok())
                    .unwrap_or(AFFINITY_SECONDS_DEFAULT)
            }),
            internal_traffic: policy(spec.internal_traffic_policy.as_deref()),
            external_traffic: policy(spec.external_traffic_policy.as_deref()),
            ports: spec.ports.iter().flatten().filter_map(port_facts).collect(),
        })
    }
}

impl SliceFacts {
    /// The Service that a slice belongs to, and its facts as seen from a node; nothing for slices of host names or of
    /// another proxy.
    pub fn of(slice: &EndpointSlice, node: &NodeFacts) -> Option<(ServiceName, Self)> {
        let labels = slice.metadata.labels.as_ref()?;
        if slice.address_type == "FQDN" || labels.contains_key(PROXY_NAME_LABEL) {
            return None;
        }
        let service = ServiceName::new(
            slice.metadata.namespace.as_deref()?,
            labels.get(SERVICE_NAME_LABEL)?,
        );
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(SlicePort {
                name: port.name.clone().unwrap_or_default(),
                protocol: Protocol::parse(port.protocol.as_deref())?,
                port: number(port.port?)?,
            })
        });
        let endpoints = slice
            .endpoints
            .iter()
            .flatten()
            .filter_map(|endpoint| endpoint_facts(endpoint, node));
        Some((
            service,
            Self {
                ports: ports.collect(),
                endpoints: endpoints.collect(),
            },
        ))
    }
}

impl HostPort {
    /// The host ports of a pod; none before it has an address, after it finished, or when it uses the node's network.
    pub fn of(pod: &Pod) -> Vec<Self> {
        let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else {
            return Vec::new();
        };
        let finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if finished || spec.host_network == Some(true) {
            return Vec::new();
        }
        let reported = status
            .pod_ips
            .iter()
            .flatten()
            .filter_map(|found| found.ip.parse().ok());
        let pod_ips: Vec<IpAddr> = reported.collect();
        // Sidecars are init containers that stay; other init containers are gone when somebody could ask.
        let containers = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        ports
            .filter_map(|port| {
                let host_port = number(port.host_port?)?;
                let host_ip: Option<IpAddr> = port
                    .host_ip
                    .as_deref()
                    .and_then(|address| address.parse().ok());
                let host_ip = host_ip.filter(|address| !address.is_unspecified());
                Some((
                    host_ip,
                    Protocol::parse(port.protocol.as_deref())?,
                    host_port,
                    number(port.container_port)?,
                ))
            })
            .flat_map(|(host_ip, protocol, host_port, container_port)| {
                let fits = move |pod_ip: &&IpAddr| {
                    host_ip.is_none_or(|address| address.is_ipv4() == pod_ip.is_ipv4())
                };
                pod_ips
                    .iter()
                    .filter(fits)
                    .map(move |pod_ip| Self {
                        host_ip,
                        protocol,
                        host_port,
                        pod_ip: *pod_ip,
                        container_port,
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

fn endpoint_facts(endpoint: &Endpoint, node: &NodeFacts) -> Option<EndpointFacts> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true);
    let serving = conditions
        .and_then(|conditions| conditions.serving)
        .unwrap_or(ready);
    let terminating = conditions
        .and_then(|conditions| conditions.terminating)
        .unwrap_or(false);
    let state = match (ready, serving && terminating) {
        (true, _) => EndpointState::Ready,
        (false, true) => EndpointState::ServingTerminating,
        (false, false) => EndpointState::Unusable,
    };
    let hints = endpoint.hints.as_ref();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref());
    let zones = hints.and_then(|hints| hints.for_zones.as_ref());
    Some(EndpointFacts {
        // A consumer uses the first address; the others are there for history.
        address: endpoint.addresses.first()?.parse().ok()?,
        locality: match endpoint.node_name.as_deref() {
            None => Locality::Unknown,
            Some(name) if name == node.name => Locality::Here,
            Some(_) => Locality::Elsewhere,
        },
        state,
        node_hint: hint(nodes.map(|nodes| nodes.iter().any(|hinted| hinted.name == node.name))),
        zone_hint: hint(zones.map(|zones| {
            zones
                .iter()
                .any(|hinted| Some(&hinted.name) == node.zone.as_ref())
        })),
    })
}

fn hint(for_us: Option<bool>) -> Hint {
    match for_us {
        None => Hint::Absent,
        Some(true) => Hint::Us,
        Some(false) => Hint::Others,
    }
}

fn port_facts(port: &ServicePort) -> Option<PortFacts> {
    Some(PortFacts {
        name: port.name.clone().unwrap_or_default(),
        protocol: Protocol::parse(port.protocol.as_deref())?,
        port: number(port.port)?,
        node_port: port.node_port.and_then(number),
    })
}

fn load_balancer_ips(service: &Service) -> Vec<IpAddr> {
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = status
        .and_then(|status| status.ingress.as_deref())
        .unwrap_or_default();
    ingress
        .iter()
        .filter(|place| place.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|place| place.ip.as_ref()?.parse().ok())
        .collect()
}

fn policy(text: Option<&str>) -> TrafficPolicy {
    if text == Some("Local") {
        TrafficPolicy::Local
    } else {
        TrafficPolicy::Cluster
    }
}

fn addresses(texts: &[String]) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

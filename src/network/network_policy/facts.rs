//! What the plan needs to know of policies, pods and namespaces, and nothing else of them.

use apimachinery::{LabelSelector, ObjectKey};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use semantics::selectors::label_selector;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A mirror pod names the static pod that it shows with this annotation; the value is that one's uid.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

pub(crate) type Labels = BTreeMap<String, String>;

/// Everything that decides what should be in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    pub policies: BTreeMap<ObjectKey, PolicyFacts>,
    /// Labels by the namespace's name.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods of all nodes, those on a node's own network excepted.
    pub pods: BTreeMap<ObjectKey, PodFacts>,
    /// Pods that are connected on this node, by uid. What is isolated here is decided by these and not by what the API
    /// says of addresses, which comes later.
    pub connected: BTreeMap<String, ConnectedPod>,
    /// Where the cluster's DNS listens, by the slice that says so.
    pub dns: BTreeMap<ObjectKey, Vec<DnsPlace>>,
}

/// A pod as the API shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    pub uid: String,
    /// For the mirror of a static pod: the uid that the node knows it by.
    pub mirrored_uid: Option<String>,
    pub labels: Labels,
    /// None after it finished.
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<NamedPort>,
}

/// A pod as it was connected on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedPod {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// Those it began with; the API's are taken as soon as they are known.
    pub labels: Labels,
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// An address and port that DNS answers at, and the name of the Service's port that leads there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsPlace {
    pub address: IpAddr,
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFacts {
    pub pods: LabelSelector,
    /// What may come in; nothing: the policy does not speak of that direction.
    pub ingress: Option<Vec<Rule>>,
    pub egress: Option<Vec<Rule>>,
}

/// Traffic with one of these peers through one of these ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Empty: everybody.
    pub peers: Vec<Peer>,
    /// Empty: everything.
    pub ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Block(Block),
    Pods {
        /// Nothing: the policy's own namespace.
        namespaces: Option<LabelSelector>,
        pods: LabelSelector,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub range: IpNet,
    pub except: Vec<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub protocol: Protocol,
    pub choice: PortChoice,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortChoice {
    Range(u16, u16),
    /// The port that each pod itself gives this name.
    Named(String),
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

impl PolicyFacts {
    /// What cannot be understood allows nothing; the API server lets no such policy in.
    pub fn of(policy: &NetworkPolicy) -> Self {
        let spec = policy.spec.clone().unwrap_or_default();
        let named = |kind: &str| {
            let types = spec.policy_types.iter().flatten();
            types.into_iter().any(|known| known == kind)
        };
        let says_nothing = spec.policy_types.as_ref().is_none_or(Vec::is_empty);
        let ingress = spec.ingress.iter().flatten();
        let ingress = ingress.filter_map(|rule| rule_of(rule.from.as_ref(), rule.ports.as_ref()));
        let egress = spec.egress.iter().flatten();
        let egress = egress.filter_map(|rule| rule_of(rule.to.as_ref(), rule.ports.as_ref()));
        let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        Self {
            pods: selector(spec.pod_selector.as_ref()),
            ingress: (says_nothing || named("Ingress")).then(|| ingress.collect()),
            egress: (named("Egress") || (says_nothing && has_egress)).then(|| egress.collect()),
        }
    }
}

impl PodFacts {
    /// Nothing for a pod on its node's own network.
    pub fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        if spec.host_network == Some(true) {
            return None;
        }
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let is_finished = matches!(phase, Some("Succeeded" | "Failed"));
        let reported = status.and_then(|status| status.pod_ips.as_ref());
        let reported = reported.into_iter().flatten();
        let addresses = reported.filter_map(|address| address.ip.parse().ok());
        let containers = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        let annotations = pod.metadata.annotations.as_ref();
        Some(Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            mirrored_uid: annotations.and_then(|known| known.get(MIRROR_ANNOTATION).cloned()),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            addresses: addresses.filter(|_| !is_finished).collect(),
            ports: ports
                .filter_map(|port| {
                    Some(NamedPort {
                        name: port.name.clone()?,
                        protocol: Protocol::parse(port.protocol.as_deref())?,
                        port: number(port.container_port)?,
                    })
                })
                .collect(),
        })
    }

    /// Whether the node knows this pod by that uid.
    pub fn is_called(&self, uid: &str) -> bool {
        self.uid == uid || self.mirrored_uid.as_deref() == Some(uid)
    }
}

impl DnsPlace {
    /// The places of a slice that no pod stands behind.
    pub fn of(slice: &EndpointSlice) -> Vec<Self> {
        let endpoints = slice.endpoints.iter().flatten();
        let addresses = endpoints
            .filter(|endpoint| endpoint.target_ref.is_none())
            .flat_map(|endpoint| &endpoint.addresses);
        let addresses: Vec<IpAddr> = addresses.filter_map(|text| text.parse().ok()).collect();
        let ports = slice.ports.iter().flatten();
        let ports = ports.filter_map(|port| {
            let protocol = Protocol::parse(port.protocol.as_deref())?;
            Some((port.name.clone()?, protocol, number(port.port?)?))
        });
        ports
            .flat_map(|(name, protocol, port)| {
                let at = move |address: &IpAddr| Self {
                    address: *address,
                    name: name.clone(),
                    protocol,
                    port,
                };
                addresses.iter().map(at)
            })
            .collect()
    }
}

/// Nothing for a rule that names something and of which nothing can be understood: it must not become "everybody".
fn rule_of(
    peers: Option<&Vec<NetworkPolicyPeer>>,
    ports: Option<&Vec<NetworkPolicyPort>>,
) -> Option<Rule> {
    let (peers, ports) = (peers.into_iter().flatten(), ports.into_iter().flatten());
    let (names_peers, names_ports) = (
        peers.clone().next().is_some(),
        ports.clone().next().is_some(),
    );
    let rule = Rule {
        peers: peers.filter_map(peer).collect(),
        ports: ports.filter_map(port).collect(),
    };
    let is_lost = (names_peers && rule.peers.is_empty()) || (names_ports && rule.ports.is_empty());
    (!is_lost).then_some(rule)
}

fn peer(peer: &NetworkPolicyPeer) -> Option<Peer> {
    if let Some(found) = &peer.ip_block {
        return block(found).map(Peer::Block);
    }
    Some(Peer::Pods {
        namespaces: peer
            .namespace_selector
            .as_ref()
            .map(|wanted| selector(Some(wanted))),
        pods: selector(peer.pod_selector.as_ref()),
    })
}

fn block(block: &IPBlock) -> Option<Block> {
    let except = block.except.iter().flatten();
    Some(Block {
        range: block.cidr.trim().parse().ok()?,
        except: except
            .map(|range| range.trim().parse().ok())
            .collect::<Option<_>>()?,
    })
}

fn port(port: &NetworkPolicyPort) -> Option<Port> {
    let choice = match &port.port {
        None => PortChoice::Range(0, u16::MAX),
        Some(IntOrString::String(name)) => PortChoice::Named(name.clone()),
        Some(IntOrString::Int(first)) => {
            let last = port.end_port.unwrap_or(*first);
            PortChoice::Range(number(*first)?, number(last)?)
        }
    };
    Some(Port {
        protocol: Protocol::parse(port.protocol.as_deref())?,
        choice,
    })
}

/// A missing selector selects everything, as an empty one.
fn selector(selector: Option<&ApiSelector>) -> LabelSelector {
    let Some(selector) = selector else {
        return LabelSelector::everything();
    };
    label_selector(Some(selector)).unwrap_or_else(|error| {
        tracing::error!(%error, "a selector of a network policy cannot be understood and selects nothing");
        LabelSelector::nothing()
    })
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

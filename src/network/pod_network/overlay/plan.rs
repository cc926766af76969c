//! What should be in the kernel, computed from all Nodes; pure. What a node claims for itself is believed only as far as
//! it takes nothing from another.

use super::facts::{NodeFacts, Offer};
use super::{Backend, Checksums};
use crate::address_pool::node_address_in;
use crate::identity::Instance;
use ipnet::IpNet;
use linux::netlink::route::{Mac, Vxlan, Way};
use linux::netlink::wireguard::{Key, Peer};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Flannel's numbers, which firewalls of k3s' users let through already.
const VXLAN_NETWORK: u32 = 1;
const VXLAN_PORT: u16 = 8472;
pub(crate) const WIREGUARD_PORT: u16 = 51820;

/// This node.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) name: String,
    pub(crate) instance: Instance,
    pub(crate) ranges: Vec<IpNet>,
    pub(crate) cluster_ranges: Vec<IpNet>,
    pub(crate) checksums: Checksums,
    pub(crate) offer: Offer,
    /// The node's address for other nodes, of the family that tunnels use.
    pub(crate) underlay: IpAddr,
    /// Bytes of a packet that leaves the node whole.
    pub(crate) uplink_mtu: u32,
}

/// All that a plan depends on.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    pub(crate) own: &'a Own,
    /// All Nodes by name; this one may be among them.
    pub(crate) nodes: &'a BTreeMap<String, NodeFacts>,
    /// How this node's packets leave for the addresses of others.
    pub(crate) ways: &'a BTreeMap<IpAddr, Way>,
}

/// What should be in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    /// Nothing where no peer needs it.
    pub(crate) tunnel: Option<Tunnel>,
    pub(crate) forwardings: BTreeMap<Mac, IpAddr>,
    pub(crate) neighbours: BTreeMap<IpAddr, Mac>,
    pub(crate) peers: BTreeMap<Key, Peer>,
    pub(crate) routes: BTreeMap<IpNet, Hop>,
    /// What people should know, by the name of the other node.
    pub(crate) complaints: BTreeMap<String, Complaint>,
}

/// A link that leads to other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) name: String,
    pub(crate) kind: TunnelKind,
    pub(crate) group: u32,
    pub(crate) mtu: u32,
    /// Says what cannot be read from the link otherwise.
    pub(crate) alias: String,
    /// The node's own addresses in the pod network: what is masqueraded into the tunnel comes from there.
    pub(crate) addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunnelKind {
    Vxlan {
        settings: Vxlan,
        mac: Mac,
        checksums: Checksums,
    },
    WireGuard,
}

/// Where a peer's pods are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    /// Nothing where the link alone says it.
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) out: Out,
    /// The source of the node's own packets.
    pub(crate) source: Option<IpAddr>,
    pub(crate) metric: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Out {
    Tunnel,
    Link(u32),
}

/// Why another node's pods are not reached, or not as they were meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Complaint {
    #[error(
        "it reports no {family} address, and this node speaks to others by {family}: give it one with --node-ip"
    )]
    NoAddress { family: &'static str },
    #[error(
        "it runs with --flannel-backend={theirs} and this node with {ours}: start both with the same"
    )]
    OtherBackend { ours: Backend, theirs: Backend },
    #[error(
        "it reports the address {0}, which is this node's own: give one of them another with --node-ip"
    )]
    OurAddress(IpAddr),
    #[error(
        "its pod range {0} is not in --cluster-cidr, or overlaps that of another node: delete the Node, and it is given another"
    )]
    Range(IpNet),
    #[error(
        "it told no key of its own for the tunnel, or that of another node: restart combo there"
    )]
    Key,
    #[error(
        "plain routes (host-gw) do not lead there, because {0} is not on a link of this node: VXLAN is used instead"
    )]
    NotOnLink(IpAddr),
}

impl Complaint {
    /// Whether pods reach each other all the same.
    pub(crate) fn is_only_slower(&self) -> bool {
        matches!(self, Self::NotOnLink(_))
    }
}

pub(crate) fn desired(view: &View<'_>) -> Desired {
    let mut draft = Draft {
        view,
        taken: view.own.ranges.clone(),
        desired: Desired::default(),
    };
    let mut peers: Vec<(&String, &NodeFacts)> = view
        .nodes
        .iter()
        .filter(|(name, _)| **name != view.own.name)
        .collect();
    // The older of two that claim the same is believed.
    peers.sort_by_key(|(name, facts)| (facts.since.clone(), (*name).clone()));
    for (name, facts) in peers {
        // A node that has just come tells the rest in a moment.
        let Some(offer) = &facts.offer else {
            continue;
        };
        let is_coming = facts.ranges.is_empty() || facts.addresses.is_empty();
        if is_coming || view.own.offer.backend == Backend::None {
            continue;
        }
        if let Err(complaint) = draft.add(facts, offer) {
            draft.desired.complaints.insert(name.clone(), complaint);
        }
    }
    draft.desired
}

struct Draft<'a> {
    view: &'a View<'a>,
    taken: Vec<IpNet>,
    desired: Desired,
}

/// A peer that forwards what is for its pods.
#[derive(Clone, Copy)]
struct Router {
    address: IpAddr,
    link: u32,
}

/// How one peer is reached.
enum Reach {
    Routed(Vec<(IpNet, Router)>),
    Vxlan(Mac),
    WireGuard(Key),
}

impl Draft<'_> {
    /// Nothing is added when the peer cannot be reached.
    fn add(&mut self, facts: &NodeFacts, offer: &Offer) -> Result<(), Complaint> {
        let own = self.view.own;
        if offer.backend != own.offer.backend {
            return Err(Complaint::OtherBackend {
                ours: own.offer.backend,
                theirs: offer.backend,
            });
        }
        let address = facts
            .addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv4() == own.underlay.is_ipv4())
            .ok_or(Complaint::NoAddress {
                family: family_name(own.underlay),
            })?;
        if address == own.underlay {
            return Err(Complaint::OurAddress(address));
        }
        let ranges = self.believed(&facts.ranges)?;
        // Without any way to the node there is nothing to do: the kernel tells when there is one.
        let Some((reach, complaint)) = self.reach(address, facts, offer)? else {
            return Ok(());
        };
        self.taken.extend(&ranges);
        match reach {
            Reach::Routed(routers) => {
                for (range, router) in routers {
                    self.route(range, Some(router.address), Out::Link(router.link));
                }
            }
            Reach::Vxlan(mac) => self.through_vxlan(&ranges, address, mac),
            Reach::WireGuard(key) => self.through_wireguard(&ranges, address, key),
        }
        complaint.map_or(Ok(()), Err)
    }

    /// The ranges, if the cluster can have given all of them to the node.
    fn believed(&self, ranges: &[IpNet]) -> Result<Vec<IpNet>, Complaint> {
        let cluster = &self.view.own.cluster_ranges;
        for range in ranges {
            let is_inside = cluster.iter().any(|whole| whole.contains(range));
            let overlaps = |other: &IpNet| other.contains(range) || range.contains(other);
            if !is_inside || self.taken.iter().any(overlaps) {
                return Err(Complaint::Range(*range));
            }
        }
        Ok(ranges.to_vec())
    }

    fn reach(
        &self,
        address: IpAddr,
        facts: &NodeFacts,
        offer: &Offer,
    ) -> Result<Option<(Reach, Option<Complaint>)>, Complaint> {
        let own = &self.view.own.offer;
        if own.backend == Backend::WireGuard {
            let key = offer
                .wireguard_key
                .filter(|key| Some(*key) != own.wireguard_key)
                .filter(|key| !self.desired.peers.contains_key(key))
                .ok_or(Complaint::Key)?;
            return Ok(Some((Reach::WireGuard(key), None)));
        }
        let has_vxlan = own.mac.is_some() && offer.mac.is_some();
        if own.backend == Backend::HostGw || !has_vxlan {
            if let Some(routers) = self.routers(facts) {
                return Ok(Some((Reach::Routed(routers), None)));
            }
            if !self.view.ways.contains_key(&address) {
                return Ok(None);
            }
        }
        let mac = offer
            .mac
            .filter(|mac| own.mac.is_some_and(|own| own != *mac))
            .filter(|mac| !self.desired.forwardings.contains_key(mac))
            .ok_or(Complaint::Key)?;
        let is_fallback = own.backend == Backend::HostGw;
        let complaint = is_fallback.then_some(Complaint::NotOnLink(address));
        Ok(Some((Reach::Vxlan(mac), complaint)))
    }

    /// Who forwards to each range of a peer; nothing unless the peer is on a link of this node in every family it needs.
    fn routers(&self, facts: &NodeFacts) -> Option<Vec<(IpNet, Router)>> {
        let router = |range: &IpNet| {
            let mut addresses = facts.addresses.iter();
            let address = *addresses.find(|one| one.is_ipv4() == range.network().is_ipv4())?;
            let way = self.view.ways.get(&address)?;
            let link = way.link;
            way.gateway
                .is_none()
                .then_some((*range, Router { address, link }))
        };
        facts.ranges.iter().map(router).collect()
    }

    fn through_vxlan(&mut self, ranges: &[IpNet], address: IpAddr, mac: Mac) {
        let own = self.view.own;
        let settings = Vxlan {
            network: VXLAN_NETWORK,
            local: own.underlay,
            port: VXLAN_PORT,
            learns: false,
        };
        let kind = TunnelKind::Vxlan {
            settings,
            mac: own
                .offer
                .mac
                .expect("a peer is behind VXLAN only where this node has it"),
            checksums: own.checksums,
        };
        self.desired.tunnel = Some(tunnel(own, own.instance.vxlan_link(), kind, Backend::Vxlan));
        self.desired.forwardings.insert(mac, address);
        let gateways = ranges.iter().copied().map(node_address_in);
        self.desired
            .neighbours
            .extend(gateways.map(|gateway| (gateway, mac)));
        for range in ranges {
            let gateway = node_address_in(*range);
            self.route(*range, Some(gateway), Out::Tunnel);
        }
    }

    fn through_wireguard(&mut self, ranges: &[IpNet], address: IpAddr, key: Key) {
        let own = self.view.own;
        let name = own.instance.wireguard_link();
        self.desired.tunnel = Some(tunnel(own, name, TunnelKind::WireGuard, Backend::WireGuard));
        let mut sorted = ranges.to_vec();
        sorted.sort();
        let peer = Peer {
            endpoint: Some(SocketAddr::new(address, WIREGUARD_PORT)),
            ranges: sorted,
        };
        self.desired.peers.insert(key, peer);
        for range in ranges {
            self.route(*range, None, Out::Tunnel);
        }
    }

    fn route(&mut self, range: IpNet, gateway: Option<IpAddr>, out: Out) {
        let own = self.view.own;
        let hop = Hop {
            gateway,
            out,
            source: own_addresses(own)
                .into_iter()
                .find(|address| address.is_ipv4() == range.network().is_ipv4()),
            metric: own.instance.metric(),
        };
        self.desired.routes.insert(range, hop);
    }
}

fn tunnel(own: &Own, name: String, kind: TunnelKind, backend: Backend) -> Tunnel {
    let computed = matches!(
        kind,
        TunnelKind::Vxlan {
            checksums: Checksums::Computed,
            ..
        }
    );
    let suffix = if computed { ", checksums computed" } else { "" };
    Tunnel {
        name,
        kind,
        group: own.instance.group(),
        mtu: backend.pod_mtu(own.uplink_mtu, own.underlay),
        alias: format!("{}{suffix}", own.instance.overlay_alias()),
        addresses: own_addresses(own),
    }
}

fn own_addresses(own: &Own) -> Vec<IpAddr> {
    let ranges = own.ranges.iter().copied();
    ranges.map(node_address_in).collect()
}

fn family_name(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The addresses to which a way has to be looked up before a plan is made.
pub(crate) fn addresses_of_peers(
    own: &Own,
    nodes: &BTreeMap<String, NodeFacts>,
) -> BTreeSet<IpAddr> {
    let peers = nodes.iter().filter(|(name, _)| **name != own.name);
    peers
        .flat_map(|(_, facts)| facts.addresses.iter().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(backend: Backend) -> Own {
        Own {
            name: "own".to_owned(),
            instance: Instance::new("i"),
            ranges: vec!["10.42.0.0/24".parse().unwrap()],
            cluster_ranges: vec!["10.42.0.0/16".parse().unwrap()],
            checksums: Checksums::Offloaded,
            offer: offer(backend, 1),
            underlay: "192.0.2.1".parse().unwrap(),
            uplink_mtu: 1500,
        }
    }

    fn offer(backend: Backend, number: u8) -> Offer {
        Offer {
            backend,
            mac: Some([2, 0, 0, 0, 0, number]),
            wireguard_key: Some([number; 32]),
        }
    }

    fn peer(backend: Backend, number: u8) -> NodeFacts {
        NodeFacts {
            since: format!("2026-01-{number:02}T00:00:00Z"),
            addresses: vec![IpAddr::from([192, 0, 2, number])],
            ranges: vec![format!("10.42.{number}.0/24").parse().unwrap()],
            offer: Some(offer(backend, number)),
        }
    }

    fn plan(own: &Own, peers: Vec<(&str, NodeFacts)>) -> Desired {
        let named = peers
            .into_iter()
            .map(|(name, facts)| (name.to_owned(), facts));
        let nodes: BTreeMap<String, NodeFacts> = named.collect();
        let on_link = |address| {
            let way = Way {
                link: 2,
                gateway: None,
                source: None,
            };
            (address, way)
        };
        let ways = addresses_of_peers(own, &nodes)
            .into_iter()
            .map(on_link)
            .collect();
        desired(&View {
            own,
            nodes: &nodes,
            ways: &ways,
        })
    }

    #[test]
    fn a_cluster_of_one_node_and_nodes_that_are_still_coming_need_nothing() {
        let own = own(Backend::Vxlan);
        let mut without_address = peer(Backend::Vxlan, 2);
        without_address.addresses.clear();
        let mut without_range = peer(Backend::Vxlan, 3);
        without_range.ranges.clear();
        let mut silent = peer(Backend::Vxlan, 4);
        silent.offer = None;
        let coming = vec![
            ("own", peer(Backend::Vxlan, 9)),
            ("a", without_address),
            ("b", without_range),
            ("c", silent),
        ];
        assert_eq!(plan(&own, coming), Desired::default());
    }

    #[test]
    fn who_claims_what_an_older_node_has_gets_nothing_and_harms_nobody() {
        let own = own(Backend::Vxlan);
        let honest = plan(&own, vec![("honest", peer(Backend::Vxlan, 2))]);
        let thief = |change: fn(&mut NodeFacts)| {
            let mut thief = peer(Backend::Vxlan, 3);
            change(&mut thief);
            plan(
                &own,
                vec![("honest", peer(Backend::Vxlan, 2)), ("a-thief", thief)],
            )
        };
        for found in [
            thief(|thief| thief.offer = Some(offer(Backend::Vxlan, 2))),
            thief(|thief| thief.offer = Some(offer(Backend::Vxlan, 1))),
            thief(|thief| thief.ranges = vec!["10.42.2.0/25".parse().unwrap()]),
            thief(|thief| thief.ranges = vec!["10.42.0.128/25".parse().unwrap()]),
            thief(|thief| thief.ranges = vec!["10.43.0.0/16".parse().unwrap()]),
            thief(|thief| thief.addresses = vec!["192.0.2.1".parse().unwrap()]),
        ] {
            assert!(found.complaints.contains_key("a-thief"), "{found:?}");
            assert_eq!(found.routes, honest.routes);
            assert_eq!(found.forwardings, honest.forwardings);
        }
    }

    #[test]
    fn a_kernel_without_vxlan_reaches_nodes_on_its_link_by_plain_routes() {
        let mut own = own(Backend::Vxlan);
        own.offer.mac = None;
        let found = plan(&own, vec![("a", peer(Backend::Vxlan, 2))]);
        assert_eq!(found.tunnel, None);
        let hop = found.routes.values().next().unwrap();
        assert_eq!(hop.out, Out::Link(2));
        assert_eq!(hop.gateway, Some("192.0.2.2".parse().unwrap()));
    }

    #[test]
    fn wireguard_peers_have_their_ranges_behind_them_and_no_gateway() {
        let own = own(Backend::WireGuard);
        let found = plan(&own, vec![("a", peer(Backend::WireGuard, 2))]);
        let tunnel = found.tunnel.unwrap();
        assert_eq!((tunnel.kind, tunnel.mtu), (TunnelKind::WireGuard, 1420));
        let range: IpNet = "10.42.2.0/24".parse().unwrap();
        let there = Peer {
            endpoint: Some("192.0.2.2:51820".parse().unwrap()),
            ranges: vec![range],
        };
        assert_eq!(found.peers, BTreeMap::from([([2; 32], there)]));
        assert_eq!(found.routes[&range].gateway, None);
    }
}

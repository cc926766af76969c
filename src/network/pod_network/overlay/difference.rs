//! What has to be done to get from what is in the kernel to what should be; pure.

use super::plan::{Desired, Hop, Out, Tunnel, TunnelKind};
use crate::identity::Instance;
use crate::plan::ROUTE_PROTOCOL;
use ipnet::IpNet;
use linux::netlink::route::{Address, Forwarding, Link, Mac, Neighbour, Route};
use linux::netlink::wireguard::{Device, Key, Peer};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the kernel has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) forwardings: Vec<Forwarding>,
    /// The settings of this instance's WireGuard link, where there is one.
    pub(crate) wireguard: Option<Device>,
}

/// One change. Those behind a `MakeTunnel` are of the tunnel that it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    RemoveRoute(Route),
    RemoveNeighbour {
        link: u32,
        address: IpAddr,
    },
    RemoveForwarding(Forwarding),
    RemovePeers {
        link: u32,
        keys: Vec<Key>,
    },
    RemoveTunnel {
        link: u32,
    },
    MakeTunnel(Box<Tunnel>),
    /// The tunnel stands already; the steps that follow are of it.
    UseTunnel {
        link: u32,
    },
    AddAddress(IpAddr),
    SwitchOn,
    SetPeers(Vec<(Key, Peer)>),
    SetNeighbour {
        address: IpAddr,
        mac: Mac,
    },
    SetForwarding {
        mac: Mac,
        machine: IpAddr,
    },
    SetRoute {
        range: IpNet,
        hop: Hop,
    },
}

/// The steps, in an order in which no packet is sent to a place that is not there yet.
pub(crate) fn difference(instance: &Instance, desired: &Desired, found: &Found) -> Vec<Step> {
    let tunnels: Vec<&Link> = found
        .links
        .iter()
        .filter(|link| instance.is_tunnel(link))
        .collect();
    let kept = tunnels.iter().copied().find(|link| {
        desired
            .tunnel
            .as_ref()
            .is_some_and(|tunnel| is_as_wanted(tunnel, link))
    });
    let mut steps = remove_from(instance, desired, found, kept);
    steps.extend(
        tunnels
            .iter()
            .filter(|link| kept.is_none_or(|kept| kept.index != link.index))
            .map(|link| Step::RemoveTunnel { link: link.index }),
    );
    if let Some(tunnel) = &desired.tunnel {
        steps.extend(raise(tunnel, found, kept));
    }
    steps.extend(fill(desired, found, kept));
    let is_idle = matches!(steps.as_slice(), [Step::UseTunnel { .. }]);
    if is_idle { Vec::new() } else { steps }
}

fn is_as_wanted(tunnel: &Tunnel, link: &Link) -> bool {
    let is_kind = match tunnel.kind {
        TunnelKind::Vxlan { settings, mac, .. } => {
            link.vxlan == Some(settings) && link.mac == Some(mac)
        }
        TunnelKind::WireGuard => link.kind.as_deref() == Some("wireguard"),
    };
    is_kind
        && link.name == tunnel.name
        && link.group == tunnel.group
        && link.mtu == tunnel.mtu
        && link.alias.as_ref() == Some(&tunnel.alias)
}

/// What a tunnel that goes had on it goes with it.
fn remove_from(
    instance: &Instance,
    desired: &Desired,
    found: &Found,
    kept: Option<&Link>,
) -> Vec<Step> {
    let tunnels: Vec<u32> = found
        .links
        .iter()
        .filter(|link| instance.is_tunnel(link))
        .map(|link| link.index)
        .collect();
    let is_ours = |route: &&Route| {
        let is_marked = route.protocol == ROUTE_PROTOCOL && route.metric == Some(instance.metric());
        let in_tunnel = route.link.is_some_and(|link| tunnels.contains(&link));
        // Without a gateway it is the route to the Services.
        is_marked && (route.gateway.is_some() || in_tunnel)
    };
    let is_wanted = |route: &Route| {
        let range = IpNet::new(route.destination, route.prefix_length);
        range.is_ok_and(|range| desired.routes.contains_key(&range))
    };
    let mut steps: Vec<Step> = found
        .routes
        .iter()
        .filter(is_ours)
        .filter(|route| !is_wanted(route))
        .map(|route| Step::RemoveRoute(*route))
        .collect();
    let Some(kept) = kept.map(|link| link.index) else {
        return steps;
    };
    let here = found.forwardings.iter().filter(|one| one.link == kept);
    // One hardware address can have several entries; the kernel replaces only the first.
    let stale = here.filter(|one| desired.forwardings.get(&one.mac) != Some(&one.machine));
    steps.extend(stale.map(|one| Step::RemoveForwarding(*one)));
    let here = found.neighbours.iter().filter(|one| one.link == kept);
    let stale = here.filter(|one| !desired.neighbours.contains_key(&one.address));
    steps.extend(stale.map(|one| Step::RemoveNeighbour {
        link: kept,
        address: one.address,
    }));
    let peers = found
        .wireguard
        .iter()
        .flat_map(|device| device.peers.keys());
    let keys: Vec<Key> = peers
        .filter(|key| !desired.peers.contains_key(*key))
        .copied()
        .collect();
    if !keys.is_empty() {
        steps.push(Step::RemovePeers { link: kept, keys });
    }
    steps
}

fn raise(tunnel: &Tunnel, found: &Found, kept: Option<&Link>) -> Vec<Step> {
    let has = |address: &IpAddr| {
        kept.is_some_and(|link| {
            let mut addresses = found.addresses.iter();
            addresses.any(|one| one.link == link.index && one.address == *address)
        })
    };
    let mut steps = vec![kept.map_or_else(
        || Step::MakeTunnel(Box::new(tunnel.clone())),
        |link| Step::UseTunnel { link: link.index },
    )];
    let missing = tunnel.addresses.iter().filter(|address| !has(address));
    steps.extend(missing.map(|address| Step::AddAddress(*address)));
    if kept.is_none_or(|link| !link.up) {
        steps.push(Step::SwitchOn);
    }
    steps
}

fn fill(desired: &Desired, found: &Found, kept: Option<&Link>) -> Vec<Step> {
    let kept = kept.map(|link| link.index);
    let no_peers = BTreeMap::new();
    let device = found.wireguard.as_ref().filter(|_| kept.is_some());
    let present = device.map_or(&no_peers, |device| &device.peers);
    let changed: Vec<(Key, Peer)> = desired
        .peers
        .iter()
        .filter(|(key, peer)| present.get(*key) != Some(*peer))
        .map(|(key, peer)| (*key, peer.clone()))
        .collect();
    let mut steps = Vec::new();
    if !changed.is_empty() {
        steps.push(Step::SetPeers(changed));
    }
    for (address, mac) in &desired.neighbours {
        let (address, mac) = (*address, *mac);
        let is_there =
            kept.is_some_and(|link| found.neighbours.contains(&Neighbour { link, address, mac }));
        if !is_there {
            steps.push(Step::SetNeighbour { address, mac });
        }
    }
    for (mac, machine) in &desired.forwardings {
        let (mac, machine) = (*mac, *machine);
        let is_there = kept.is_some_and(|link| {
            found
                .forwardings
                .contains(&Forwarding { link, mac, machine })
        });
        if !is_there {
            steps.push(Step::SetForwarding { mac, machine });
        }
    }
    for (range, hop) in &desired.routes {
        let is_there = match hop.out {
            Out::Link(link) => Some(link),
            Out::Tunnel => kept,
        }
        .is_some_and(|link| found.routes.contains(&route(*range, hop, link)));
        if !is_there {
            steps.push(Step::SetRoute {
                range: *range,
                hop: *hop,
            });
        }
    }
    steps
}

/// The route of a hop out of this link.
pub(crate) fn route(range: IpNet, hop: &Hop, link: u32) -> Route {
    Route {
        destination: range.network(),
        prefix_length: range.prefix_len(),
        link: Some(link),
        gateway: hop.gateway,
        // The gateway in a tunnel is on no network of this node.
        on_link: hop.gateway.is_some() && hop.out == Out::Tunnel,
        source: hop.source,
        metric: Some(hop.metric),
        protocol: ROUTE_PROTOCOL,
    }
}

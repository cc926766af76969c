//! The node's own place in the pod network: an address on a port-less bridge, and a route that covers the Services.
//!
//! Without a route that covers the Service range a connect from the node fails before any rule is asked, so the route is
//! there even where the machine has no default route. The bridge has no ports; it is only a holder that each kernel has.

use crate::address_pool::node_address_in;
use crate::error::Error;
use crate::identity::Instance;
use crate::plan::ROUTE_PROTOCOL;
use ipnet::IpNet;
use linux::netlink::NetlinkError;
use linux::netlink::route::{Address, Link, NewLink, NewLinkKind, Route, RouteSocket, host_prefix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the node's link needs to know.
#[derive(Debug, Clone)]
pub struct NodeLinkConfig {
    /// A short hash that tells the Combo instances of a machine apart.
    pub instance: String,
    /// The node's pod ranges, at most one per family.
    pub pod_cidrs: Vec<IpNet>,
    pub service_cidrs: Vec<IpNet>,
    pub mtu: u32,
}

/// The node's link, once it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLink {
    /// The node's own addresses in the pod network: the first of each pod range.
    pub addresses: Vec<IpAddr>,
    pub name: String,
}

impl NodeLink {
    /// Makes the link or repairs it; the same again changes nothing. Call it from the node's network namespace.
    pub fn ensure(config: &NodeLinkConfig) -> Result<Self, Error> {
        let mut socket = RouteSocket::open().map_err(node("open a netlink socket"))?;
        ensure_on(&mut socket, config)
    }
}

pub(crate) fn ensure_on(
    socket: &mut RouteSocket,
    config: &NodeLinkConfig,
) -> Result<NodeLink, Error> {
    let instance = Instance::new(&config.instance);
    let name = instance.node_link();
    let index =
        ensure_bridge(socket, &instance, config.mtu).map_err(node("make the node's link"))?;
    let addresses: Vec<IpAddr> = config
        .pod_cidrs
        .iter()
        .map(|range| node_address_in(*range))
        .collect();
    // While the node's share is not known, what it had is as good as anything.
    if !addresses.is_empty() {
        forget_others(socket, index, &addresses)
            .map_err(node("take old addresses from the node"))?;
    }
    for address in &addresses {
        socket
            .add_address(Address {
                link: index,
                address: *address,
                prefix_length: host_prefix(*address),
                scope: 0,
            })
            .map_err(node("give the node its pod network address"))?;
    }
    for range in &config.service_cidrs {
        let source = addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv4() == range.network().is_ipv4());
        let route = Route {
            destination: range.network(),
            prefix_length: range.prefix_len(),
            link: Some(index),
            gateway: None,
            on_link: false,
            source,
            metric: Some(instance.metric()),
            protocol: ROUTE_PROTOCOL,
        };
        // The metric is ours alone, so this replaces no route of anybody else.
        socket
            .replace_route(&route)
            .map_err(node("add the route to the Services"))?;
    }
    Ok(NodeLink { addresses, name })
}

/// The node's share of the pod addresses may be another than before; what it had is another node's now.
fn forget_others(
    socket: &mut RouteSocket,
    link: u32,
    wanted: &[IpAddr],
) -> Result<(), NetlinkError> {
    let found = socket.addresses()?;
    let on_link = found.iter().filter(|one| one.link == link);
    for old in on_link.filter(|one| !is_link_local(one.address) && !wanted.contains(&one.address)) {
        socket.delete_address(link, old.address)?;
    }
    Ok(())
}

fn ensure_bridge(
    socket: &mut RouteSocket,
    instance: &Instance,
    mtu: u32,
) -> Result<u32, NetlinkError> {
    let name = instance.node_link();
    let found = socket.link_named(&name)?;
    let index = if let Some(link) = found {
        link.index
    } else {
        let link = NewLink {
            name: name.clone(),
            kind: NewLinkKind::Bridge,
            mac: None,
            mtu,
            group: instance.group(),
        };
        socket.add_link(&link)?;
        socket
            .link_named(&name)?
            .ok_or(NetlinkError::Malformed)?
            .index
    };
    socket.set_link_up(index)?;
    Ok(index)
}

/// The addresses that a node should report as its own (`InternalIP`), at most one per family, IPv4 first.
///
/// Per family: the source address towards the world, else the first global address of a link that is not Combo's. Empty on
/// a machine with nothing but `lo`: then the node's pod network address ([`NodeLink::addresses`]) is the one to report,
/// since the API refuses loopback addresses as endpoints. Call it from the node's network namespace.
pub fn node_addresses() -> Result<Vec<IpAddr>, Error> {
    let mut socket = RouteSocket::open().map_err(node("open a netlink socket"))?;
    // Any address that is surely elsewhere; nothing is sent to it.
    let elsewhere: [IpAddr; 2] = [
        Ipv4Addr::new(1, 1, 1, 1).into(),
        Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1).into(),
    ];
    let links = socket.links().map_err(node("list links"))?;
    let addresses = socket.addresses().map_err(node("list addresses"))?;
    let mut found = Vec::new();
    for destination in elsewhere {
        let source = socket
            .source_towards(destination)
            .map_err(node("find the way to the world"))?;
        found.extend(choose(source, destination.is_ipv4(), &links, &addresses));
    }
    Ok(found)
}

/// Bytes of a packet that leaves the node whole: the MTU of the link with the node's address, or 1500 without one.
///
/// Call it from the node's network namespace.
pub fn uplink_mtu(node_address: Option<IpAddr>) -> Result<u32, Error> {
    const ETHERNET: u32 = 1500;
    let mut socket = RouteSocket::open().map_err(node("open a netlink socket"))?;
    let addresses = socket.addresses().map_err(node("list addresses"))?;
    let uplink = addresses
        .iter()
        .find(|found| node_address == Some(found.address));
    let links = socket.links().map_err(node("list links"))?;
    let link = links
        .iter()
        .find(|link| uplink.is_some_and(|address| address.link == link.index));
    Ok(link.map_or(ETHERNET, |link| link.mtu))
}

fn choose(
    source: Option<IpAddr>,
    v4: bool,
    links: &[Link],
    addresses: &[Address],
) -> Option<IpAddr> {
    let usable = |address: &IpAddr| {
        !address.is_loopback() && !address.is_unspecified() && !is_link_local(*address)
    };
    source.filter(usable).or_else(|| {
        addresses
            .iter()
            .filter(|found| {
                found.scope == 0 && found.address.is_ipv4() == v4 && usable(&found.address)
            })
            .find(|found| {
                links
                    .iter()
                    .any(|link| link.index == found.link && is_somebody_elses_uplink(link))
            })
            .map(|found| found.address)
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// A link that packets of others come by now.
pub(crate) fn is_somebody_elses_uplink(link: &Link) -> bool {
    link.up && may_be_uplink(link)
}

/// Links of container networks have addresses too, but nobody outside reaches them.
pub(crate) fn may_be_uplink(link: &Link) -> bool {
    const CONTAINER_LINKS: [&str; 8] = [
        "combo", "cmb", "docker", "cni", "flannel", "cali", "veth", "virbr",
    ];
    link.name != "lo"
        && !CONTAINER_LINKS
            .iter()
            .any(|prefix| link.name.starts_with(prefix))
}

pub(crate) fn node(doing: &'static str) -> impl Fn(NetlinkError) -> Error {
    move |source| Error::Node { doing, source }
}

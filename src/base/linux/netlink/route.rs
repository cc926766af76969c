//! Links, addresses, routes and neighbours: plain values, how they are asked of the kernel and read from it.

mod overlay;
mod watch;

pub use overlay::{Forwarding, Vxlan};
pub use watch::{RouteWatch, Seen};

use super::attributes::{Attributes, FLAG_CREATE, FLAG_EXCLUSIVE, FLAG_REPLACE, Request};
use super::{Message, NetlinkError, Protocol, Reply, Socket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;
const DELETE_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;

const LINK_MAC: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_STATE: u16 = 16;
const LINK_INFO: u16 = 18;
const LINK_ALIAS: u16 = 20;
const LINK_GROUP: u16 = 27;
const LINK_NAMESPACE: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const LINK_UP: u32 = 1;

const ADDRESS_ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_NO_DUPLICATE_DETECTION: u8 = 2;

const ROUTE_DESTINATION: u16 = 1;
const ROUTE_LINK: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_METRIC: u16 = 6;
const ROUTE_SOURCE: u16 = 7;
const ROUTE_TABLE: u16 = 15;
const ROUTE_ON_LINK: u32 = 4;
const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const TYPE_UNICAST: u8 = 1;

const NEIGHBOUR_DESTINATION: u16 = 1;
const NEIGHBOUR_MAC: u16 = 2;
const NEIGHBOUR_PERMANENT: u16 = 0x80;

/// A hardware address.
pub type Mac = [u8; 6];

/// A link to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLink {
    /// At most 15 bytes.
    pub name: String,
    pub kind: NewLinkKind,
    pub mac: Option<Mac>,
    pub mtu: u32,
    /// A number that marks the link from its first moment, or 0.
    pub group: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewLinkKind {
    Bridge,
    /// A pair; the other end is born in another network namespace.
    Veth {
        peer_name: String,
        peer_namespace: RawFd,
    },
    /// A tunnel that carries frames in UDP; where a frame goes is written with [`RouteSocket::set_forwarding`].
    Vxlan(Vxlan),
    /// A tunnel that encrypts; its keys and peers are written with [`WireGuardSocket`](super::wireguard::WireGuardSocket).
    WireGuard,
}

/// A link that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub alias: Option<String>,
    pub group: u32,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    /// `veth`, `bridge`, `vxlan`; nothing for hardware.
    pub kind: Option<String>,
    /// The settings of a link of kind `vxlan`.
    pub vxlan: Option<Vxlan>,
}

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub link: u32,
    pub address: IpAddr,
    pub prefix_length: u8,
    /// 0 for addresses that are valid everywhere.
    pub scope: u8,
}

/// A route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub destination: IpAddr,
    pub prefix_length: u8,
    /// The link it goes out of.
    pub link: Option<u32>,
    pub gateway: Option<IpAddr>,
    /// The gateway is taken to be on the link even if no address says so.
    pub on_link: bool,
    /// The source that the machine's own packets get.
    pub source: Option<IpAddr>,
    /// Lower wins among routes to one destination; nothing is the kernel's default.
    pub metric: Option<u32>,
    /// Who made the route; a mark of the owner (`RTPROT_*`).
    pub protocol: u8,
}

/// A permanent entry that says which hardware address is behind an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    pub link: u32,
    pub address: IpAddr,
    pub mac: Mac,
}

/// How the machine's own packets to a destination would leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub link: u32,
    /// The next router; nothing when the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    pub source: Option<IpAddr>,
}

/// The calls on links, addresses, routes and neighbours of one network namespace.
#[derive(Debug)]
pub struct RouteSocket(Socket);

impl RouteSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        Socket::open(Protocol::Route).map(Self)
    }

    pub fn add_link(&mut self, link: &NewLink) -> Result<(), NetlinkError> {
        let mut request = Request::acknowledged(
            NEW_LINK,
            FLAG_CREATE | FLAG_EXCLUSIVE,
            &link_header(0, 0, 0),
        );
        request.text(LINK_NAME, &link.name).ne32(LINK_MTU, link.mtu);
        if link.group != 0 {
            request.ne32(LINK_GROUP, link.group);
        }
        if let Some(mac) = link.mac {
            request.attribute(LINK_MAC, &mac);
        }
        request.nested(LINK_INFO, |info| put_link_kind(info, link));
        self.0
            .acknowledge(&format!("to make the link {}", link.name), request)
    }

    /// Writes a link's alias (at most 255 bytes, free text for people and for its owner).
    pub fn set_link_alias(&mut self, index: u32, alias: &str) -> Result<(), NetlinkError> {
        let mut request = Request::acknowledged(SET_LINK, 0, &link_header(index, 0, 0));
        request.attribute(LINK_ALIAS, alias.as_bytes());
        self.0.acknowledge("to write a link's alias", request)
    }

    pub fn set_link_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        let request = Request::acknowledged(SET_LINK, 0, &link_header(index, LINK_UP, LINK_UP));
        self.0.acknowledge("to switch a link on", request)
    }

    /// Returns once a link that is on sends what it is given, or after two seconds.
    ///
    /// The end of a pair that was switched on first drops all packets until the kernel's own worker has heard of the other
    /// end, which takes long while links come and go. Newer kernels (6.10) do that work in answer to the question.
    pub fn wait_until_running(&mut self, index: u32) -> Result<(), NetlinkError> {
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);
        const OPERATIONAL: u8 = 6;
        let start = std::time::Instant::now();
        while start.elapsed() < PATIENCE {
            let request = Request::get(GET_LINK, &link_header(index, 0, 0));
            let link = self.0.get("to find a link", request)?;
            let state = link
                .attributes(16)
                .find(LINK_STATE)
                .and_then(|state| state.first().copied());
            if state == Some(OPERATIONAL) {
                break;
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Removes a link; blocks for tens of milliseconds, in which the kernel takes no other change of links.
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let request = Request::acknowledged(DELETE_LINK, 0, &link_header(index, 0, 0));
        self.0.acknowledge("to remove a link", request)
    }

    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let replies = self.0.dump(
            "to list links",
            &Request::dump(GET_LINK, &link_header(0, 0, 0)),
        )?;
        Ok(replies.iter().filter_map(read_link).collect())
    }

    pub fn link_named(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut request = Request::get(GET_LINK, &link_header(0, 0, 0));
        request.text(LINK_NAME, name);
        match self.0.get("to find a link", request) {
            Ok(reply) => Ok(read_link(&reply)),
            Err(error) if error.is_refusal(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds an address, usable at once if its link is on; an address that is there already is left as it is.
    pub fn add_address(&mut self, address: Address) -> Result<(), NetlinkError> {
        let flags = if address.address.is_ipv6() {
            ADDRESS_NO_DUPLICATE_DETECTION
        } else {
            0
        };
        let mut fixed = vec![
            family(address.address),
            address.prefix_length,
            flags,
            address.scope,
        ];
        fixed.extend(address.link.to_ne_bytes());
        let mut request = Request::acknowledged(NEW_ADDRESS, FLAG_CREATE | FLAG_REPLACE, &fixed);
        let bytes = octets(address.address);
        request
            .attribute(ADDRESS_LOCAL, &bytes)
            .attribute(ADDRESS_ADDRESS, &bytes);
        self.0
            .acknowledge(&format!("the address {}", address.address), request)?;
        if address.address.is_ipv6() {
            self.wait_until_local(address.address)?;
        }
        Ok(())
    }

    /// The kernel makes an IPv6 address usable a moment after it acknowledged it. Who connects earlier is sent to look for
    /// a neighbour and fails after seconds.
    fn wait_until_local(&mut self, address: IpAddr) -> Result<(), NetlinkError> {
        const TRIES_MAX: u32 = 20_000;
        const TYPE_LOCAL: u8 = 2;
        for _try in 0..TRIES_MAX {
            let route = self.look_up(address)?;
            if route.is_some_and(|route| route.payload.get(7) == Some(&TYPE_LOCAL)) {
                break;
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Takes an address away; quiet when it is not there.
    pub fn delete_address(&mut self, link: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut fixed = vec![family(address), host_prefix(address), 0, 0];
        fixed.extend(link.to_ne_bytes());
        let mut request = Request::acknowledged(DELETE_ADDRESS, 0, &fixed);
        request.attribute(ADDRESS_LOCAL, &octets(address));
        let what = format!("to remove the address {address}");
        match self.0.acknowledge(&what, request) {
            Err(error) if error.is_refusal(libc::EADDRNOTAVAIL) => Ok(()),
            other => other,
        }
    }

    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let replies = self
            .0
            .dump("to list addresses", &Request::dump(GET_ADDRESS, &[0; 8]))?;
        Ok(replies.iter().filter_map(read_address).collect())
    }

    /// Adds a route; EEXIST when the destination has one already.
    pub fn add_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.change_route(NEW_ROUTE, FLAG_CREATE | FLAG_EXCLUSIVE, route)
    }

    /// Adds a route or takes the place of the one to the same destination.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.change_route(NEW_ROUTE, FLAG_CREATE | FLAG_REPLACE, route)
    }

    pub fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.change_route(DELETE_ROUTE, 0, route)
    }

    fn change_route(&mut self, kind: u16, flags: u16, route: &Route) -> Result<(), NetlinkError> {
        let fixed_scope = match (route.gateway, route.destination) {
            (None, IpAddr::V4(_)) => SCOPE_LINK,
            _ => SCOPE_UNIVERSE,
        };
        let route_flags = if route.on_link { ROUTE_ON_LINK } else { 0 };
        let mut fixed = vec![family(route.destination), route.prefix_length, 0, 0];
        fixed.extend([TABLE_MAIN, route.protocol, fixed_scope, TYPE_UNICAST]);
        fixed.extend(route_flags.to_ne_bytes());
        let mut request = Request::acknowledged(kind, flags, &fixed);
        if route.prefix_length > 0 {
            request.attribute(ROUTE_DESTINATION, &octets(route.destination));
        }
        if let Some(gateway) = route.gateway {
            request.attribute(ROUTE_GATEWAY, &octets(gateway));
        }
        if let Some(source) = route.source {
            request.attribute(ROUTE_SOURCE, &octets(source));
        }
        if let Some(link) = route.link {
            request.ne32(ROUTE_LINK, link);
        }
        if let Some(metric) = route.metric {
            request.ne32(ROUTE_METRIC, metric);
        }
        let what = format!("the route to {}/{}", route.destination, route.prefix_length);
        self.0.acknowledge(&what, request)
    }

    /// All unicast routes of the main table, both families.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let replies = self
            .0
            .dump("to list routes", &Request::dump(GET_ROUTE, &[0; 12]))?;
        Ok(replies.iter().filter_map(read_route).collect())
    }

    /// The source address that the machine's own packets to `destination` would have; nothing without a route.
    pub fn source_towards(&mut self, destination: IpAddr) -> Result<Option<IpAddr>, NetlinkError> {
        Ok(self.way_towards(destination)?.and_then(|way| way.source))
    }

    /// How the machine's own packets to `destination` would leave it; nothing without a route.
    pub fn way_towards(&mut self, destination: IpAddr) -> Result<Option<Way>, NetlinkError> {
        let route = self.look_up(destination)?;
        Ok(route.and_then(|route| {
            let attributes = route.attributes(12);
            Some(Way {
                link: attributes.find_ne32(ROUTE_LINK)?,
                gateway: attributes.find(ROUTE_GATEWAY).and_then(read_ip),
                source: attributes.find(ROUTE_SOURCE).and_then(read_ip),
            })
        }))
    }

    /// The route that the machine's own packets to `destination` would take; nothing without one.
    fn look_up(&mut self, destination: IpAddr) -> Result<Option<Reply>, NetlinkError> {
        let mut fixed = [0; 12];
        fixed[0] = family(destination);
        fixed[1] = host_prefix(destination);
        let mut request = Request::get(GET_ROUTE, &fixed);
        request.attribute(ROUTE_DESTINATION, &octets(destination));
        match self.0.get("to look a route up", request) {
            Ok(reply) => Ok(Some(reply)),
            Err(NetlinkError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a permanent neighbour, in place of one that is there.
    pub fn set_neighbour(&mut self, neighbour: Neighbour) -> Result<(), NetlinkError> {
        let fixed = neighbour_header(family(neighbour.address), neighbour.link);
        let mut request = Request::acknowledged(NEW_NEIGHBOUR, FLAG_CREATE | FLAG_REPLACE, &fixed);
        request.attribute(NEIGHBOUR_DESTINATION, &octets(neighbour.address));
        request.attribute(NEIGHBOUR_MAC, &neighbour.mac);
        self.0
            .acknowledge(&format!("the neighbour {}", neighbour.address), request)
    }

    /// Takes a neighbour away; quiet when there is none.
    pub fn delete_neighbour(&mut self, link: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let fixed = neighbour_header(family(address), link);
        let mut request = Request::acknowledged(DELETE_NEIGHBOUR, 0, &fixed);
        request.attribute(NEIGHBOUR_DESTINATION, &octets(address));
        let what = format!("to remove the neighbour {address}");
        absent_is_done(self.0.acknowledge(&what, request))
    }

    /// The permanent neighbours of all links.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, NetlinkError> {
        let replies = self.0.dump(
            "to list neighbours",
            &Request::dump(GET_NEIGHBOUR, &[0; 12]),
        )?;
        Ok(replies.iter().filter_map(read_neighbour).collect())
    }
}

fn put_link_kind(info: &mut Request, link: &NewLink) {
    match &link.kind {
        NewLinkKind::Bridge => {
            info.text(INFO_KIND, "bridge");
        }
        NewLinkKind::Veth {
            peer_name,
            peer_namespace,
        } => {
            info.text(INFO_KIND, "veth").nested(INFO_DATA, |data| {
                data.nested(VETH_PEER, |peer| {
                    peer.raw(&link_header(0, 0, 0))
                        .text(LINK_NAME, peer_name)
                        .ne32(LINK_MTU, link.mtu);
                    peer.ne32(LINK_NAMESPACE, peer_namespace.cast_unsigned());
                });
            });
        }
        NewLinkKind::Vxlan(vxlan) => {
            info.text(INFO_KIND, "vxlan")
                .nested(INFO_DATA, |data| overlay::put_vxlan(data, vxlan));
        }
        NewLinkKind::WireGuard => {
            info.text(INFO_KIND, "wireguard");
        }
    }
}

/// Removing what is not there is done.
fn absent_is_done(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.is_refusal(libc::ENOENT) || error.is_refusal(libc::ESRCH) => Ok(()),
        other => other,
    }
}

fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn neighbour_header(family: u8, link: u32) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family;
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..10].copy_from_slice(&NEIGHBOUR_PERMANENT.to_ne_bytes());
    header
}

fn read_link(reply: &Reply) -> Option<Link> {
    link_of(&reply.payload)
}

fn link_of(payload: &[u8]) -> Option<Link> {
    let header = payload.get(..16)?;
    let attributes = Attributes(&payload[16..]);
    let info = attributes.find_nested(LINK_INFO);
    let kind = info.and_then(|info| info.find_text(INFO_KIND));
    Some(Link {
        index: u32_at(header, 4),
        up: u32_at(header, 8) & LINK_UP != 0,
        name: attributes.find_text(LINK_NAME)?.to_owned(),
        alias: attributes.find_text(LINK_ALIAS).map(str::to_owned),
        group: attributes.find_ne32(LINK_GROUP).unwrap_or(0),
        mac: attributes
            .find(LINK_MAC)
            .and_then(|mac| mac.try_into().ok()),
        mtu: attributes.find_ne32(LINK_MTU).unwrap_or(0),
        kind: kind.map(str::to_owned),
        vxlan: info
            .filter(|_| kind == Some("vxlan"))
            .and_then(|info| info.find_nested(INFO_DATA))
            .and_then(overlay::read_vxlan),
    })
}

fn read_address(reply: &Reply) -> Option<Address> {
    address_of(&reply.payload)
}

fn address_of(payload: &[u8]) -> Option<Address> {
    let header = payload.get(..8)?;
    let attributes = Attributes(&payload[8..]);
    let value = attributes
        .find(ADDRESS_LOCAL)
        .or_else(|| attributes.find(ADDRESS_ADDRESS))?;
    Some(Address {
        link: u32_at(header, 4),
        address: read_ip(value)?,
        prefix_length: header[1],
        scope: header[3],
    })
}

fn read_route(reply: &Reply) -> Option<Route> {
    route_of(&reply.payload)
}

fn route_of(payload: &[u8]) -> Option<Route> {
    let header = payload.get(..12)?;
    let attributes = Attributes(&payload[12..]);
    let in_main = attributes
        .find_ne32(ROUTE_TABLE)
        .unwrap_or(u32::from(header[4]))
        == u32::from(TABLE_MAIN);
    if header[7] != TYPE_UNICAST || !in_main {
        return None;
    }
    let destination = match attributes.find(ROUTE_DESTINATION) {
        Some(bytes) => read_ip(bytes)?,
        None if i32::from(header[0]) == libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        None => Ipv6Addr::UNSPECIFIED.into(),
    };
    Some(Route {
        destination,
        prefix_length: header[1],
        link: attributes.find_ne32(ROUTE_LINK),
        gateway: attributes.find(ROUTE_GATEWAY).and_then(read_ip),
        on_link: u32_at(header, 8) & ROUTE_ON_LINK != 0,
        source: attributes.find(ROUTE_SOURCE).and_then(read_ip),
        metric: attributes.find_ne32(ROUTE_METRIC),
        protocol: header[5],
    })
}

fn read_neighbour(reply: &Reply) -> Option<Neighbour> {
    neighbour_of(&reply.payload)
}

/// Nothing for entries that the kernel learned.
fn neighbour_of(payload: &[u8]) -> Option<Neighbour> {
    let header = payload.get(..12)?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    let attributes = Attributes(&payload[12..]);
    Some(Neighbour {
        link: u32_at(header, 4),
        address: attributes.find(NEIGHBOUR_DESTINATION).and_then(read_ip)?,
        mac: attributes.find(NEIGHBOUR_MAC)?.try_into().ok()?,
    })
    .filter(|_| state & NEIGHBOUR_PERMANENT != 0)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    super::attributes::read_u32(bytes, at)
}

fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    u8::try_from(family).expect("address families are small numbers")
}

/// The prefix length of a single address: 32 or 128.
pub fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

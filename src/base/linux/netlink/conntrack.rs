//! Known flows: removal of those that a filter names, so that packets stop following a decision that was taken back.

use super::attributes::{Attributes, Request};
use super::{NetlinkError, Protocol, Socket};
use std::net::IpAddr;

/// Subsystem 1 (conntrack), messages 1 (get) and 2 (delete).
const GET_FLOWS: u16 = (1 << 8) | 1;
const DELETE_FLOWS: u16 = (1 << 8) | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE_PORT: u16 = 2;
const PROTOCOL_DESTINATION_PORT: u16 = 3;
const MATCH_SOURCE: u32 = 1;
const MATCH_DESTINATION: u32 = 1 << 1;
const MATCH_PROTOCOL: u32 = 1 << 3;
const MATCH_SOURCE_PORT: u32 = 1 << 4;
const MATCH_DESTINATION_PORT: u32 = 1 << 5;

/// Which flows to forget. There is no filter that matches everything: the kernel would flush the whole table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flows {
    /// Flows whose sender addressed this place: a virtual address, or a port of the machine.
    Towards {
        address: IpAddr,
        protocol: u8,
        port: u16,
    },
    /// The same for a port on any of the machine's addresses of a family.
    TowardsPort {
        family: Family,
        protocol: u8,
        port: u16,
    },
    /// Flows whose sender addressed the first place and that are answered from the second one.
    Translated {
        address: IpAddr,
        protocol: u8,
        port: u16,
        endpoint: IpAddr,
        endpoint_port: u16,
    },
    /// The same for a port on any of the machine's addresses.
    TranslatedPort {
        protocol: u8,
        port: u16,
        endpoint: IpAddr,
        endpoint_port: u16,
    },
    /// Flows that are answered from this place: the target after translation.
    AnsweredBy {
        address: IpAddr,
        protocol: u8,
        port: u16,
    },
    /// Flows that this address began.
    From { address: IpAddr },
    /// Flows of all protocols that are answered from this address.
    AnsweredByAddress { address: IpAddr },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

/// The calls on the flow table of one network namespace.
#[derive(Debug)]
pub struct ConntrackSocket {
    socket: Socket,
    filter: FilterPlace,
}

/// Who picks the flows out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterPlace {
    /// The kernel, in one message (6.9 and newer).
    Kernel,
    /// We, from a list of all flows.
    Here,
}

impl ConntrackSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        Self::open_with(FilterPlace::Kernel)
    }

    /// As `open`; with `Here` in the way of older kernels.
    pub fn open_with(filter: FilterPlace) -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: Socket::open(Protocol::NetFilter)?,
            filter,
        })
    }

    /// Forgets all flows that match; quiet when there are none.
    pub fn forget(&mut self, flows: Flows) -> Result<(), NetlinkError> {
        if self.filter == FilterPlace::Kernel {
            match self.socket.acknowledge("to forget flows", request(flows)) {
                Err(error) if error.is_refusal(libc::ENOENT) => return Ok(()),
                // An older kernel wants whole tuples and refuses a part of one.
                Err(error)
                    if error.is_refusal(libc::EINVAL) || error.is_refusal(libc::EOPNOTSUPP) =>
                {
                    self.filter = FilterPlace::Here;
                }
                other => return other,
            }
        }
        self.forget_one_by_one(flows)
    }

    fn forget_one_by_one(&mut self, flows: Flows) -> Result<(), NetlinkError> {
        let (family, original, reply) = parts(flows);
        let header = [family_byte(family), 0, 0, 0];
        let known = self
            .socket
            .dump("to list flows", &Request::dump(GET_FLOWS, &header))?;
        for flow in known {
            let attributes = flow.attributes(4);
            let is_meant = original.matches(attributes.find_nested(TUPLE_ORIGINAL))
                && reply.matches(attributes.find_nested(TUPLE_REPLY));
            if !is_meant {
                continue;
            }
            let mut request = Request::acknowledged(DELETE_FLOWS, 0, &header);
            if let Some(tuple) = attributes.find(TUPLE_ORIGINAL) {
                request.nested(TUPLE_ORIGINAL, |list| {
                    list.raw(tuple);
                });
            }
            for kind in [ZONE, ID] {
                if let Some(value) = attributes.find(kind) {
                    request.attribute(kind, value);
                }
            }
            match self.socket.acknowledge("to forget a flow", request) {
                // It ended meanwhile.
                Err(error) if error.is_refusal(libc::ENOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn family_byte(family: Family) -> u8 {
    let number = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    u8::try_from(number).expect("address families are small numbers")
}

fn request(flows: Flows) -> Request {
    let (family, original, reply) = parts(flows);
    let mut request = Request::acknowledged(DELETE_FLOWS, 0, &[family_byte(family), 0, 0, 0]);
    for (kind, tuple) in [(TUPLE_ORIGINAL, original), (TUPLE_REPLY, reply)] {
        if tuple != Tuple::default() {
            request.nested(kind, |inner| tuple.put(inner));
        }
    }
    // The bits of the filter are in the machine's order, unlike every other number here.
    request.nested(FILTER, |list| {
        for (kind, tuple) in [(FILTER_ORIGINAL, original), (FILTER_REPLY, reply)] {
            if tuple != Tuple::default() {
                list.ne32(kind, tuple.bits());
            }
        }
    });
    request
}

/// What is known of one direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: Option<u8>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

impl Tuple {
    fn bits(self) -> u32 {
        let bit = |known: bool, bit: u32| if known { bit } else { 0 };
        bit(self.source.is_some(), MATCH_SOURCE)
            | bit(self.destination.is_some(), MATCH_DESTINATION)
            | bit(self.protocol.is_some(), MATCH_PROTOCOL)
            | bit(self.source_port.is_some(), MATCH_SOURCE_PORT)
            | bit(self.destination_port.is_some(), MATCH_DESTINATION_PORT)
    }

    /// Whether a flow's tuple has all that is known here.
    fn matches(self, tuple: Option<Attributes<'_>>) -> bool {
        let Some(tuple) = tuple else { return false };
        let ip = tuple.find_nested(TUPLE_IP);
        let transport = tuple.find_nested(TUPLE_PROTOCOL);
        let address = |side| ip.and_then(|ip| read_address(ip, side));
        let port = |which| {
            let bytes = transport.and_then(|transport| transport.find(which))?;
            Some(u16::from_be_bytes(bytes.try_into().ok()?))
        };
        let protocol =
            transport.and_then(|transport| transport.find(PROTOCOL_NUMBER)?.first().copied());
        fits(self.source, address(Side::Source))
            && fits(self.destination, address(Side::Destination))
            && fits(self.protocol, protocol)
            && fits(self.source_port, port(PROTOCOL_SOURCE_PORT))
            && fits(self.destination_port, port(PROTOCOL_DESTINATION_PORT))
    }

    fn put(self, tuple: &mut Request) {
        if let Some(address) = self.source {
            put_address(tuple, address, Side::Source);
        }
        if let Some(address) = self.destination {
            put_address(tuple, address, Side::Destination);
        }
        if let Some(protocol) = self.protocol {
            tuple.nested(TUPLE_PROTOCOL, |inner| {
                inner.attribute(PROTOCOL_NUMBER, &[protocol]);
                if let Some(port) = self.source_port {
                    inner.attribute(PROTOCOL_SOURCE_PORT, &port.to_be_bytes());
                }
                if let Some(port) = self.destination_port {
                    inner.attribute(PROTOCOL_DESTINATION_PORT, &port.to_be_bytes());
                }
            });
        }
    }
}

/// Family, original direction, reply direction.
fn parts(flows: Flows) -> (Family, Tuple, Tuple) {
    let none = Tuple::default();
    let to = |address: Option<IpAddr>, protocol: u8, port: u16| Tuple {
        destination: address,
        protocol: Some(protocol),
        destination_port: Some(port),
        ..none
    };
    let from = |address: IpAddr, protocol: u8, port: u16| Tuple {
        source: Some(address),
        protocol: Some(protocol),
        source_port: Some(port),
        ..none
    };
    match flows {
        Flows::Towards {
            address,
            protocol,
            port,
        } => (Family::of(address), to(Some(address), protocol, port), none),
        Flows::TowardsPort {
            family,
            protocol,
            port,
        } => (family, to(None, protocol, port), none),
        Flows::Translated {
            address,
            protocol,
            port,
            endpoint,
            endpoint_port,
        } => (
            Family::of(endpoint),
            to(Some(address), protocol, port),
            from(endpoint, protocol, endpoint_port),
        ),
        Flows::TranslatedPort {
            protocol,
            port,
            endpoint,
            endpoint_port,
        } => (
            Family::of(endpoint),
            to(None, protocol, port),
            from(endpoint, protocol, endpoint_port),
        ),
        Flows::AnsweredBy {
            address,
            protocol,
            port,
        } => (Family::of(address), none, from(address, protocol, port)),
        Flows::From { address } => (
            Family::of(address),
            Tuple {
                source: Some(address),
                ..none
            },
            none,
        ),
        Flows::AnsweredByAddress { address } => (
            Family::of(address),
            none,
            Tuple {
                source: Some(address),
                ..none
            },
        ),
    }
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

fn put_address(tuple: &mut Request, address: IpAddr, side: Side) {
    tuple.nested(TUPLE_IP, |ip| {
        match (address, side) {
            (IpAddr::V4(address), Side::Source) => ip.attribute(1, &address.octets()),
            (IpAddr::V4(address), Side::Destination) => ip.attribute(2, &address.octets()),
            (IpAddr::V6(address), Side::Source) => ip.attribute(3, &address.octets()),
            (IpAddr::V6(address), Side::Destination) => ip.attribute(4, &address.octets()),
        };
    });
}

fn read_address(ip: Attributes<'_>, side: Side) -> Option<IpAddr> {
    let (v4, v6) = match side {
        Side::Source => (1, 3),
        Side::Destination => (2, 4),
    };
    if let Some(bytes) = ip.find(v4) {
        return Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?));
    }
    Some(IpAddr::from(<[u8; 16]>::try_from(ip.find(v6)?).ok()?))
}

fn fits<T: PartialEq + Copy>(wanted: Option<T>, found: Option<T>) -> bool {
    wanted.is_none() || wanted == found
}

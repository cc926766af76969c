//! Known flows: removal of those that a filter names, so that packets stop following a decision that was taken back.

use super::attributes::Request;
use super::{NetlinkError, Protocol, Socket};
use std::net::IpAddr;

/// Subsystem 1 (conntrack), message 2 (delete).
const DELETE_FLOWS: u16 = (1 << 8) | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
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
pub struct ConntrackSocket(Socket);

impl ConntrackSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        Socket::open(Protocol::NetFilter).map(Self)
    }

    /// Forgets all flows that match; quiet when there are none. The filter runs in the kernel (6.9 and newer); an older
    /// kernel refuses the request.
    pub fn forget(&mut self, flows: Flows) -> Result<(), NetlinkError> {
        match self.0.acknowledge("to forget flows", request(flows)) {
            Err(error) if error.is_refusal(libc::ENOENT) => Ok(()),
            other => other,
        }
    }
}

fn request(flows: Flows) -> Request {
    let (family, original, reply) = parts(flows);
    let family_number = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let family_byte = u8::try_from(family_number).expect("address families are small numbers");
    let mut request = Request::acknowledged(DELETE_FLOWS, 0, &[family_byte, 0, 0, 0]);
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

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
    let family = match flows {
        Flows::TowardsPort { family, .. } => family,
        Flows::Towards { address, .. }
        | Flows::AnsweredBy { address, .. }
        | Flows::From { address }
        | Flows::AnsweredByAddress { address } => Family::of(address),
    };
    let family_number = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let family_byte = u8::try_from(family_number).expect("address families are small numbers");
    let mut request = Request::acknowledged(DELETE_FLOWS, 0, &[family_byte, 0, 0, 0]);
    let (tuple, filter, bits) = match flows {
        Flows::Towards { .. } => (
            TUPLE_ORIGINAL,
            FILTER_ORIGINAL,
            MATCH_DESTINATION | MATCH_PROTOCOL | MATCH_DESTINATION_PORT,
        ),
        Flows::TowardsPort { .. } => (
            TUPLE_ORIGINAL,
            FILTER_ORIGINAL,
            MATCH_PROTOCOL | MATCH_DESTINATION_PORT,
        ),
        Flows::AnsweredBy { .. } => (
            TUPLE_REPLY,
            FILTER_REPLY,
            MATCH_SOURCE | MATCH_PROTOCOL | MATCH_SOURCE_PORT,
        ),
        Flows::From { .. } => (TUPLE_ORIGINAL, FILTER_ORIGINAL, MATCH_SOURCE),
        Flows::AnsweredByAddress { .. } => (TUPLE_REPLY, FILTER_REPLY, MATCH_SOURCE),
    };
    request.nested(tuple, |tuple| put_tuple(tuple, flows));
    // The bits of the filter are in the machine's order, unlike every other number here.
    request.nested(FILTER, |list| {
        list.ne32(filter, bits);
    });
    request
}

fn put_tuple(tuple: &mut Request, flows: Flows) {
    match flows {
        Flows::Towards {
            address,
            protocol,
            port,
        } => {
            put_address(tuple, address, Side::Destination);
            put_port(tuple, protocol, PROTOCOL_DESTINATION_PORT, port);
        }
        Flows::TowardsPort { protocol, port, .. } => {
            put_port(tuple, protocol, PROTOCOL_DESTINATION_PORT, port)
        }
        Flows::AnsweredBy {
            address,
            protocol,
            port,
        } => {
            put_address(tuple, address, Side::Source);
            put_port(tuple, protocol, PROTOCOL_SOURCE_PORT, port);
        }
        Flows::From { address } | Flows::AnsweredByAddress { address } => {
            put_address(tuple, address, Side::Source);
        }
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

fn put_port(tuple: &mut Request, protocol: u8, which: u16, port: u16) {
    tuple.nested(TUPLE_PROTOCOL, |inner| {
        inner
            .attribute(PROTOCOL_NUMBER, &[protocol])
            .attribute(which, &port.to_be_bytes());
    });
}

//! Tunnels between machines: VXLAN links, and which machine a hardware address is behind.

use super::{
    DELETE_NEIGHBOUR, GET_NEIGHBOUR, Mac, NEIGHBOUR_DESTINATION, NEIGHBOUR_MAC,
    NEIGHBOUR_PERMANENT, NEW_NEIGHBOUR, RouteSocket, absent_is_done, neighbour_header, octets,
    read_ip, u32_at,
};
use crate::netlink::attributes::{Attributes, FLAG_CREATE, FLAG_REPLACE, Request};
use crate::netlink::{NetlinkError, Reply};
use std::net::IpAddr;

const VXLAN_NETWORK: u16 = 1;
const VXLAN_LOCAL: u16 = 4;
const VXLAN_LEARNING: u16 = 7;
const VXLAN_PORT: u16 = 15;
const VXLAN_LOCAL_V6: u16 = 17;

const FAMILY_BRIDGE: u8 = 7;
/// The entry is the link's own, and not that of a bridge which the link is a port of.
const FLAG_OWN: u8 = 2;

/// Settings of a VXLAN link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vxlan {
    /// The number of the network (VNI), below 2^24.
    pub network: u32,
    /// This machine's address; its family is that of all machines.
    pub local: IpAddr,
    pub port: u16,
    /// Whether the link learns from frames which machine a hardware address is behind; any sender can then lie to it.
    pub learns: bool,
}

/// A permanent entry that says which machine a hardware address is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forwarding {
    pub link: u32,
    pub mac: Mac,
    pub machine: IpAddr,
}

impl RouteSocket {
    /// Writes a forwarding entry, in place of one for the same hardware address.
    pub fn set_forwarding(&mut self, entry: Forwarding) -> Result<(), NetlinkError> {
        let fixed = forwarding_header(entry.link);
        let mut request = Request::acknowledged(NEW_NEIGHBOUR, FLAG_CREATE | FLAG_REPLACE, &fixed);
        request.attribute(NEIGHBOUR_MAC, &entry.mac);
        request.attribute(NEIGHBOUR_DESTINATION, &octets(entry.machine));
        let what = format!("the forwarding to {}", entry.machine);
        self.0.acknowledge(&what, request)
    }

    /// Takes a forwarding entry away; quiet when there is none.
    pub fn delete_forwarding(&mut self, entry: Forwarding) -> Result<(), NetlinkError> {
        let fixed = forwarding_header(entry.link);
        let mut request = Request::acknowledged(DELETE_NEIGHBOUR, 0, &fixed);
        request.attribute(NEIGHBOUR_MAC, &entry.mac);
        request.attribute(NEIGHBOUR_DESTINATION, &octets(entry.machine));
        let what = format!("to remove the forwarding to {}", entry.machine);
        absent_is_done(self.0.acknowledge(&what, request))
    }

    /// The permanent forwarding entries of all tunnels.
    pub fn forwardings(&mut self) -> Result<Vec<Forwarding>, NetlinkError> {
        let mut fixed = [0; 12];
        fixed[0] = FAMILY_BRIDGE;
        let request = Request::dump(GET_NEIGHBOUR, &fixed);
        let replies = self.0.dump("to list forwarding entries", &request)?;
        Ok(replies.iter().filter_map(read_forwarding).collect())
    }
}

pub(super) fn put_vxlan(data: &mut Request, vxlan: &Vxlan) {
    let local = if vxlan.local.is_ipv4() {
        VXLAN_LOCAL
    } else {
        VXLAN_LOCAL_V6
    };
    data.ne32(VXLAN_NETWORK, vxlan.network)
        .attribute(local, &octets(vxlan.local))
        .attribute(VXLAN_PORT, &vxlan.port.to_be_bytes())
        .attribute(VXLAN_LEARNING, &[u8::from(vxlan.learns)]);
}

/// Nothing for a link without an address of its own.
pub(super) fn read_vxlan(data: Attributes<'_>) -> Option<Vxlan> {
    let local = data
        .find(VXLAN_LOCAL)
        .or_else(|| data.find(VXLAN_LOCAL_V6))?;
    Some(Vxlan {
        network: data.find_ne32(VXLAN_NETWORK)?,
        local: read_ip(local)?,
        port: u16::from_be_bytes(data.find(VXLAN_PORT)?.try_into().ok()?),
        learns: data.find(VXLAN_LEARNING)? != [0],
    })
}

fn forwarding_header(link: u32) -> [u8; 12] {
    let mut header = neighbour_header(FAMILY_BRIDGE, link);
    header[10] = FLAG_OWN;
    header
}

/// Nothing for entries that were learned, and for those of bridges.
fn read_forwarding(reply: &Reply) -> Option<Forwarding> {
    let header = reply.payload.get(..12)?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    let attributes = reply.attributes(12);
    let entry = Forwarding {
        link: u32_at(header, 4),
        mac: attributes.find(NEIGHBOUR_MAC)?.try_into().ok()?,
        machine: attributes.find(NEIGHBOUR_DESTINATION).and_then(read_ip)?,
    };
    (header[0] == FAMILY_BRIDGE && state & NEIGHBOUR_PERMANENT != 0).then_some(entry)
}

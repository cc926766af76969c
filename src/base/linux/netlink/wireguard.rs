//! `WireGuard` links: keys and peers. The kernel makes the public key of a private one.

use super::NetlinkError;
use super::attributes::{Attributes, Request};
use super::generic::{GenericSocket, HEADER_BYTES};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
const DEVICE_INDEX: u16 = 1;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_PUBLIC_KEY: u16 = 4;
const DEVICE_PORT: u16 = 6;
const DEVICE_PEERS: u16 = 8;
const PEER_PUBLIC_KEY: u16 = 1;
const PEER_FLAGS: u16 = 3;
const PEER_ENDPOINT: u16 = 4;
const PEER_KEEPALIVE: u16 = 5;
const PEER_RANGES: u16 = 9;
const PEER_REMOVE: u32 = 1;
const PEER_REPLACE_RANGES: u32 = 2;
const RANGE_FAMILY: u16 = 1;
const RANGE_ADDRESS: u16 = 2;
const RANGE_PREFIX: u16 = 3;
/// Peers in one message: each list of attributes is below 64 KiB.
const PEERS_PER_MESSAGE_MAX: usize = 64;

/// A public or private key.
pub type Key = [u8; 32];

/// Where a peer is, and which addresses are behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub endpoint: Option<SocketAddr>,
    /// In ascending order.
    pub ranges: Vec<IpNet>,
}

/// The settings of a link of kind `wireguard`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Nothing before a private key is set.
    pub public_key: Option<Key>,
    pub port: u16,
    pub peers: BTreeMap<Key, Peer>,
}

/// The calls on `WireGuard` links of one network namespace.
#[derive(Debug)]
pub struct WireGuardSocket(GenericSocket);

impl WireGuardSocket {
    /// Opens a socket in the network namespace of the calling thread; ENOENT when this kernel has no `WireGuard`.
    pub fn open() -> Result<Self, NetlinkError> {
        GenericSocket::open("wireguard").map(Self)
    }

    pub fn device(&mut self, link: u32) -> Result<Device, NetlinkError> {
        let what = "to show a WireGuard link";
        let replies = self.0.dump(what, GET_DEVICE, |request| {
            request.ne32(DEVICE_INDEX, link);
        })?;
        let mut device = Device {
            public_key: None,
            port: 0,
            peers: BTreeMap::new(),
        };
        for reply in &replies {
            add_to_device(&mut device, reply.attributes(HEADER_BYTES));
        }
        Ok(device)
    }

    pub fn set_key_and_port(
        &mut self,
        link: u32,
        private_key: &Key,
        port: u16,
    ) -> Result<(), NetlinkError> {
        let what = "a WireGuard link's key and port";
        self.0.change(what, SET_DEVICE, |request| {
            request
                .ne32(DEVICE_INDEX, link)
                .attribute(DEVICE_PRIVATE_KEY, private_key)
                .attribute(DEVICE_PORT, &port.to_ne_bytes());
        })
    }

    /// Writes peers, in place of those with the same keys; others stay.
    pub fn set_peers(
        &mut self,
        link: u32,
        peers: &[(Key, Peer)],
        keepalive_seconds: u16,
    ) -> Result<(), NetlinkError> {
        for some in peers.chunks(PEERS_PER_MESSAGE_MAX) {
            self.0.change("WireGuard peers", SET_DEVICE, |request| {
                request
                    .ne32(DEVICE_INDEX, link)
                    .nested(DEVICE_PEERS, |list| {
                        for (key, peer) in some {
                            list.nested(0, |item| put_peer(item, key, peer, keepalive_seconds));
                        }
                    });
            })?;
        }
        Ok(())
    }

    pub fn remove_peers(&mut self, link: u32, keys: &[Key]) -> Result<(), NetlinkError> {
        for some in keys.chunks(PEERS_PER_MESSAGE_MAX) {
            let what = "to remove WireGuard peers";
            self.0.change(what, SET_DEVICE, |request| {
                request
                    .ne32(DEVICE_INDEX, link)
                    .nested(DEVICE_PEERS, |list| {
                        for key in some {
                            list.nested(0, |item| {
                                item.attribute(PEER_PUBLIC_KEY, key)
                                    .ne32(PEER_FLAGS, PEER_REMOVE);
                            });
                        }
                    });
            })?;
        }
        Ok(())
    }
}

fn put_peer(item: &mut Request, key: &Key, peer: &Peer, keepalive_seconds: u16) {
    item.attribute(PEER_PUBLIC_KEY, key)
        .ne32(PEER_FLAGS, PEER_REPLACE_RANGES)
        .attribute(PEER_KEEPALIVE, &keepalive_seconds.to_ne_bytes());
    if let Some(endpoint) = peer.endpoint {
        item.attribute(PEER_ENDPOINT, &socket_address(endpoint));
    }
    item.nested(PEER_RANGES, |ranges| {
        for range in &peer.ranges {
            ranges.nested(0, |one| {
                let (family, bytes) = match range.network() {
                    IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
                    IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
                };
                let family = u16::try_from(family).expect("address families are small numbers");
                one.attribute(RANGE_FAMILY, &family.to_ne_bytes())
                    .attribute(RANGE_ADDRESS, &bytes)
                    .attribute(RANGE_PREFIX, &[range.prefix_len()]);
            });
        }
    });
}

/// A long list of peers comes in several messages, and a long list of ranges of one peer too.
fn add_to_device(device: &mut Device, attributes: Attributes<'_>) {
    let key = |list: Attributes<'_>, kind| list.find(kind).and_then(|key| Key::try_from(key).ok());
    device.public_key = key(attributes, DEVICE_PUBLIC_KEY).or(device.public_key);
    let port = attributes
        .find(DEVICE_PORT)
        .and_then(|port| port.try_into().ok());
    device.port = port.map_or(device.port, u16::from_ne_bytes);
    let Some(peers) = attributes.find_nested(DEVICE_PEERS) else {
        return;
    };
    for (_, item) in peers.iter() {
        let item = Attributes(item);
        let Some(public_key) = key(item, PEER_PUBLIC_KEY) else {
            continue;
        };
        let peer = device.peers.entry(public_key).or_insert_with(|| Peer {
            endpoint: item.find(PEER_ENDPOINT).and_then(read_socket_address),
            ranges: Vec::new(),
        });
        let ranges = item.find_nested(PEER_RANGES);
        let ranges = ranges.iter().flat_map(|list| list.iter());
        peer.ranges
            .extend(ranges.filter_map(|(_, range)| read_range(Attributes(range))));
        peer.ranges.sort();
    }
}

fn read_range(attributes: Attributes<'_>) -> Option<IpNet> {
    let bytes = attributes.find(RANGE_ADDRESS)?;
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    IpNet::new(address, *attributes.find(RANGE_PREFIX)?.first()?).ok()
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn socket_address(address: SocketAddr) -> Vec<u8> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let family = u16::try_from(family).expect("address families are small numbers");
    let mut bytes = family.to_ne_bytes().to_vec();
    bytes.extend(address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            bytes.extend(address.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(address) => {
            bytes.extend(address.flowinfo().to_be_bytes());
            bytes.extend(address.ip().octets());
            bytes.extend(address.scope_id().to_ne_bytes());
        }
    }
    bytes
}

fn read_socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    if family == libc::AF_INET {
        let address = <[u8; 4]>::try_from(bytes.get(4..8)?).ok()?;
        return Some(SocketAddrV4::new(Ipv4Addr::from(address), port).into());
    }
    let address = <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?;
    let scope = u32::from_ne_bytes(bytes.get(24..28)?.try_into().ok()?);
    Some(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read_as_they_are_written_also_over_several_messages() {
        let peer = |endpoint: &str, ranges: &[&str]| Peer {
            endpoint: Some(endpoint.parse().expect("an endpoint")),
            ranges: ranges
                .iter()
                .map(|range| range.parse().expect("a range"))
                .collect(),
        };
        let written = [
            (
                [1; 32],
                peer("192.0.2.1:51820", &["10.42.1.0/24", "fd42:1::/64"]),
            ),
            ([2; 32], peer("[2001:db8::2]:51820", &["10.42.2.0/24"])),
        ];
        let mut device = Device {
            public_key: None,
            port: 0,
            peers: BTreeMap::new(),
        };
        for (key, peer) in &written {
            let mut message = Request::get(0, &[0; HEADER_BYTES]);
            message
                .attribute(DEVICE_PUBLIC_KEY, &[9; 32])
                .attribute(DEVICE_PORT, &51820_u16.to_ne_bytes())
                .nested(DEVICE_PEERS, |list| {
                    list.nested(0, |item| put_peer(item, key, peer, 25));
                });
            let bytes = message.finish(0);
            add_to_device(&mut device, Attributes(&bytes[16 + HEADER_BYTES..]));
        }
        assert_eq!(device.public_key, Some([9; 32]));
        assert_eq!(device.port, 51820);
        assert_eq!(device.peers, BTreeMap::from(written));
    }
}

//! Which addresses of a range are free; an address that was given back is the last to be given out again.

use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network's own address and the node's (`.0` and `.1`) are never given to a pod.
const FIRST_OFFSET: u128 = 2;
/// Addresses of a range that are used: more than a node can have pods, few enough to go round.
const ADDRESSES_MAX: u128 = 1 << 16;

#[derive(Debug)]
pub(crate) struct AddressPool {
    range: IpNet,
    taken: BTreeSet<IpAddr>,
    /// Offset from which the search goes on.
    next: u128,
}

impl AddressPool {
    pub(crate) fn new(range: IpNet) -> Self {
        Self {
            range: range.trunc(),
            taken: BTreeSet::new(),
            next: FIRST_OFFSET,
        }
    }

    pub(crate) fn range(&self) -> IpNet {
        self.range
    }

    /// A free address, or nothing when all are taken.
    pub(crate) fn allocate(&mut self) -> Option<IpAddr> {
        let end = self.end();
        let count = end.saturating_sub(FIRST_OFFSET);
        for step in 0..count {
            let offset = FIRST_OFFSET + (self.next - FIRST_OFFSET + step) % count;
            let address = at_offset(self.range, offset);
            if self.taken.insert(address) {
                self.next = if offset + 1 < end {
                    offset + 1
                } else {
                    FIRST_OFFSET
                };
                return Some(address);
            }
        }
        None
    }

    /// Whether the address is one that pods of this range get, and nobody has it.
    pub(crate) fn is_free(&self, address: IpAddr) -> bool {
        self.range.contains(&address)
            && (FIRST_OFFSET..self.end()).contains(&(value(address) - value(self.range.network())))
            && !self.taken.contains(&address)
    }

    /// Takes an address that is in use already; the search goes on behind it. Others than those of the range are ignored.
    pub(crate) fn reserve(&mut self, address: IpAddr) {
        if !self.range.contains(&address) {
            return;
        }
        self.taken.insert(address);
        let offset = value(address) - value(self.range.network());
        if offset >= self.next && offset + 1 < self.end() {
            self.next = offset + 1;
        }
    }

    pub(crate) fn release(&mut self, address: IpAddr) {
        self.taken.remove(&address);
    }

    /// The first offset that is not given out.
    fn end(&self) -> u128 {
        let host_bits = u32::from(self.range.max_prefix_len() - self.range.prefix_len());
        let size = 1_u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        // The last address of an IPv4 range is its broadcast address.
        let usable = if self.range.network().is_ipv4() {
            size.saturating_sub(1)
        } else {
            size
        };
        usable.min(ADDRESSES_MAX)
    }
}

/// The node's own address in one of its pod ranges.
pub fn node_address_in(range: IpNet) -> IpAddr {
    at_offset(range.trunc(), 1)
}

fn at_offset(range: IpNet, offset: u128) -> IpAddr {
    match range.network() {
        IpAddr::V4(network) => {
            let offset = u32::try_from(offset).expect("offsets are below the range's size");
            Ipv4Addr::from_bits(network.to_bits().saturating_add(offset)).into()
        }
        IpAddr::V6(network) => Ipv6Addr::from_bits(network.to_bits().saturating_add(offset)).into(),
    }
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: &str) -> AddressPool {
        AddressPool::new(range.parse().unwrap())
    }

    #[test]
    fn a_released_address_is_the_last_to_come_again() {
        let mut pool = pool("10.42.0.0/29");
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate())
            .map(|address| address.to_string())
            .collect();
        assert_eq!(
            all,
            [
                "10.42.0.2",
                "10.42.0.3",
                "10.42.0.4",
                "10.42.0.5",
                "10.42.0.6"
            ]
        );
        pool.release("10.42.0.3".parse().unwrap());
        pool.release("10.42.0.2".parse().unwrap());
        pool.release("10.42.0.5".parse().unwrap());
        assert_eq!(pool.allocate().unwrap().to_string(), "10.42.0.2");
        pool.release("10.42.0.2".parse().unwrap());
        assert_eq!(pool.allocate().unwrap().to_string(), "10.42.0.3");
    }

    #[test]
    fn addresses_found_in_the_kernel_are_not_given_out() {
        let mut pool = pool("fd42::/64");
        pool.reserve("fd42::2".parse().unwrap());
        pool.reserve("fd42::4".parse().unwrap());
        pool.reserve("fd43::9".parse().unwrap());
        assert_eq!(pool.allocate().unwrap().to_string(), "fd42::5");
    }

    #[test]
    fn a_range_without_room_gives_nothing() {
        assert_eq!(pool("10.42.0.0/31").allocate(), None);
        assert_eq!(pool("10.42.0.4/32").allocate(), None);
    }
}

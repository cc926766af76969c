//! The flows that must be forgotten when the ruleset changes; pure.

use crate::frame;
use crate::plan::LOCAL_SLOTS;
use linux::netlink::conntrack::{self, Flows};
use linux::netlink::nf_tables::{Family, Key, Ruleset, Value, element_difference};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The flows of connectionless protocols that follow a decision which the new ruleset takes back: those to an endpoint
/// that a Service lost, and those to an address that became a Service's.
pub(crate) fn stale_flows(old: &Ruleset, new: &Ruleset) -> BTreeSet<Flows> {
    let mut stale = BTreeSet::new();
    for family in Family::BOTH {
        for (stem, place) in [
            (frame::ENDPOINTS, Place::SlotAddress),
            (frame::NODE_ENDPOINTS, Place::SlotPort),
            (frame::HOST_PORTS, Place::Address),
            (frame::HOST_PORTS_ANYWHERE, Place::Port),
        ] {
            let name = family.name(stem);
            let (removed, added) = element_difference(old.sets.get(&name), new.sets.get(&name));
            let added: BTreeSet<(Target, IpAddr, u16)> = added
                .iter()
                .filter_map(|element| translation(family, place, *element))
                .collect();
            let lost = removed
                .iter()
                .filter_map(|element| translation(family, place, *element));
            let lost = lost.filter(|lost| !added.contains(lost));
            stale.extend(lost.map(|(target, address, port)| target.flows(address, port)));
        }
        for (stem, place) in [
            (frame::SERVICES, Place::Address),
            (frame::NODE_PORTS, Place::Port),
            (frame::HOST_PORTS, Place::Address),
            (frame::HOST_PORTS_ANYWHERE, Place::Port),
        ] {
            let name = family.name(stem);
            let known = old.sets.get(&name);
            let added = new
                .sets
                .get(&name)
                .into_iter()
                .flat_map(|set| &set.elements);
            let fresh =
                added.filter(|(key, _)| known.is_none_or(|set| !set.elements.contains_key(*key)));
            stale
                .extend(fresh.filter_map(|(key, _)| Some(target(family, place, key)?.all_flows())));
        }
    }
    stale.extend(lost_affine_endpoints(old, new));
    stale
}

/// How a key says what it is about.
#[derive(Debug, Clone, Copy)]
enum Place {
    SlotAddress,
    SlotPort,
    Address,
    Port,
}

/// What the sender of a flow addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    family: Family,
    /// Nothing: any address of the node.
    address: Option<IpAddr>,
    protocol: u8,
    port: u16,
    local_slot: bool,
}

impl Target {
    fn all_flows(self) -> Flows {
        let Self { protocol, port, .. } = self;
        match self.address {
            Some(address) => Flows::Towards {
                address,
                protocol,
                port,
            },
            None => Flows::TowardsPort {
                family: self.conntrack_family(),
                protocol,
                port,
            },
        }
    }

    fn flows(self, endpoint: IpAddr, endpoint_port: u16) -> Flows {
        let Self { protocol, port, .. } = self;
        match self.address {
            Some(address) => Flows::Translated {
                address,
                protocol,
                port,
                endpoint,
                endpoint_port,
            },
            None => Flows::TranslatedPort {
                protocol,
                port,
                endpoint,
                endpoint_port,
            },
        }
    }

    fn conntrack_family(self) -> conntrack::Family {
        if self.family.is_v4() {
            conntrack::Family::V4
        } else {
            conntrack::Family::V6
        }
    }
}

/// What an element of an endpoint map translates into what, for connectionless protocols.
fn translation(
    family: Family,
    place: Place,
    (key, value): (&Key, &Value),
) -> Option<(Target, IpAddr, u16)> {
    let target = target(family, place, key)?;
    let Value::Data(data) = value else {
        return None;
    };
    let (address, rest) = read_address(family, data.as_slice())?;
    Some((
        target,
        address,
        u16::from_be_bytes([*rest.first()?, *rest.get(1)?]),
    ))
}

fn target(family: Family, place: Place, key: &Key) -> Option<Target> {
    let bytes = key.as_slice();
    let (local_slot, rest) = match place {
        Place::SlotAddress | Place::SlotPort => {
            let slot = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
            (slot >= LOCAL_SLOTS, &bytes[4..])
        }
        Place::Address | Place::Port => (false, bytes),
    };
    let (address, rest) = match place {
        Place::SlotAddress | Place::Address => {
            let (address, rest) = read_address(family, rest)?;
            (Some(address), rest)
        }
        Place::SlotPort | Place::Port => (None, rest),
    };
    let protocol = *rest.first()?;
    let port = u16::from_be_bytes([*rest.get(4)?, *rest.get(5)?]);
    is_connectionless(protocol).then_some(Target {
        family,
        address,
        protocol,
        port,
        local_slot,
    })
}

/// A TCP connection to a lost endpoint ends by itself, with a reset or a time-out that its client sees.
fn is_connectionless(protocol: u8) -> bool {
    const UDP: u8 = 17;
    const SCTP: u8 = 132;
    matches!(protocol, UDP | SCTP)
}

fn read_address(family: Family, bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    if family.is_v4() {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        Some((IpAddr::from(*head), rest))
    } else {
        let (head, rest) = bytes.split_first_chunk::<16>()?;
        Some((IpAddr::from(*head), rest))
    }
}

/// With session affinity a lost endpoint is a lost chain that translates to a constant place.
fn lost_affine_endpoints(old: &Ruleset, new: &Ruleset) -> Vec<Flows> {
    use linux::netlink::nf_tables::Expression::Constant;
    let lost = old
        .chains
        .iter()
        .filter(|(name, _)| name.starts_with("to-") && !new.chains.contains_key(*name));
    let constants = lost.flat_map(|(_, chain)| &chain.rules).filter_map(|rule| {
        let mut values = rule.iter().filter_map(|step| match step {
            Constant { value, .. } => Some(value.as_slice()),
            _ => None,
        });
        let address = values.next()?;
        let address = read_address(
            if address.len() == 4 {
                Family::V4
            } else {
                Family::V6
            },
            address,
        )?
        .0;
        Some((address, u16::from_be_bytes(values.next()?.try_into().ok()?)))
    });
    // The chain does not say for which protocol it is; a flow table has few entries of the other one for that place.
    constants
        .flat_map(|(address, port)| {
            [17, 132].map(|protocol| Flows::AnsweredBy {
                address,
                protocol,
                port,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;

//! Which addresses a node reports, that it goes on reporting one for as long as the machine has it, and what follows at once when
//! the machine loses one.

use crate::error::Error;
use crate::node_link::{is_somebody_elses_uplink, may_be_uplink, node, node_addresses};
use env::Shutdown;
use ipnet::IpNet;
use linux::netlink::route::{Address, RouteSocket, RouteWatch, Seen};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::watch;

/// A new lease takes the old address away and brings the next: one look serves both.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// After a failure to ask the kernel.
const RETRY: Duration = Duration::from_secs(5);

/// How a node's addresses are chosen.
#[derive(Debug, Clone)]
pub struct AddressRule {
    /// What a person said; nothing else counts then.
    pub said: Option<IpAddr>,
    /// The link whose addresses count; the machine's choice without one.
    pub interface: Option<String>,
    /// Only families that pods have are reported, in their order, unless the machine has none of them.
    pub cluster_cidrs: Vec<IpNet>,
}

impl AddressRule {
    /// The addresses now, primary first; empty on a machine with nothing but `lo`. Those among `current` that the machine
    /// still has are kept. Call it from the node's network namespace.
    pub fn addresses(&self, current: &[IpAddr]) -> Result<Vec<IpAddr>, Error> {
        if let Some(said) = self.said {
            return Ok(vec![said]);
        }
        let mut socket = RouteSocket::open().map_err(node("open a netlink socket"))?;
        let mut present = socket.addresses().map_err(node("list addresses"))?;
        let Some(interface) = &self.interface else {
            // The address in the pod network is the node's only until there is any other.
            let links = socket.links().map_err(node("list links"))?;
            let uplinks = links.iter().filter(|link| is_somebody_elses_uplink(link));
            let uplinks: BTreeSet<u32> = uplinks.map(|link| link.index).collect();
            present.retain(|one| uplinks.contains(&one.link));
            return Ok(self.settle(current, &node_addresses()?, &present));
        };
        let link = socket.link_named(interface).map_err(node("find a link"))?;
        let link = link.ok_or_else(|| Error::NoInterface(interface.clone()))?;
        present.retain(|one| one.link == link.index && one.scope == 0);
        let found: Vec<IpAddr> = present.iter().map(|one| one.address).collect();
        Ok(self.settle(current, &found, &present))
    }

    fn settle(&self, current: &[IpAddr], found: &[IpAddr], present: &[Address]) -> Vec<IpAddr> {
        let is_present = |address: &IpAddr| present.iter().any(|one| one.address == *address);
        let of_family = |v4: bool| {
            let kept = current.iter().filter(|one| is_present(one));
            kept.chain(found).find(|one| one.is_ipv4() == v4).copied()
        };
        let mut families: Vec<bool> = Vec::new();
        for range in &self.cluster_cidrs {
            families.push(range.network().is_ipv4());
        }
        let wanted: Vec<IpAddr> = families.into_iter().filter_map(of_family).collect();
        if wanted.is_empty() {
            [true, false]
                .into_iter()
                .filter_map(of_family)
                .take(1)
                .collect()
        } else {
            wanted
        }
    }

    fn is_of_pods_families(&self, address: IpAddr) -> bool {
        let mut ranges = self.cluster_cidrs.iter();
        ranges.any(|range| range.network().is_ipv4() == address.is_ipv4())
    }

    /// Keeps `followed` as the machine's addresses are, until the end is asked for. A machine that has none for a while keeps
    /// its last ones. Connections of this process from an address that the machine lost end. Call it from the node's network
    /// namespace.
    pub async fn follow(&self, followed: &FollowedAddresses, shutdown: &Shutdown) {
        let mut events = match RouteWatch::open() {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "changes of the node's addresses go unnoticed");
                return;
            }
        };
        let mut had = BTreeSet::new();
        loop {
            let failed = self.look(followed, &mut had).is_err();
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                heard = events.changed(matters) => {
                    if heard.is_err() {
                        return;
                    }
                }
                () = env::sleep(RETRY), if failed => {}
            }
            env::sleep(DEBOUNCE).await;
        }
    }

    fn look(&self, followed: &FollowedAddresses, had: &mut BTreeSet<IpAddr>) -> Result<(), Error> {
        let seen = Machine::look().and_then(|machine| {
            let current = followed.node.borrow().clone();
            Ok((self.addresses(&current)?, machine, current))
        });
        let (next, machine, current) =
            seen.inspect_err(|error| tracing::warn!(%error, "the node's addresses are not known"))?;
        if !next.is_empty() && next != current {
            tracing::info!(?next, ?current, "the node has other addresses");
            followed.node.send_replace(next);
        }
        let missing = self.said.filter(|said| !machine.all.contains(said));
        set(&followed.missing, missing);
        let mut reachable = machine.reachable;
        reachable.retain(|address| self.is_of_pods_families(*address));
        set(&followed.machine, reachable);
        let lost: BTreeSet<IpAddr> = had.difference(&machine.all).copied().collect();
        *had = machine.all;
        if !lost.is_empty() {
            match linux::end_own_connections(|local| lost.contains(&local)) {
                Ok(ended) => tracing::info!(?lost, ended, "addresses are gone"),
                Err(error) => tracing::warn!(%error, "connections from lost addresses may hang"),
            }
        }
        Ok(())
    }
}

/// What is known of a machine's addresses while it runs.
#[derive(Debug)]
pub struct FollowedAddresses {
    /// Those that the node reports, primary first.
    pub node: watch::Sender<Vec<IpAddr>>,
    /// All of the pods' families that others may reach the machine at, sorted.
    pub machine: watch::Sender<Vec<IpAddr>>,
    /// The address that a person said, while the machine does not have it.
    pub missing: watch::Sender<Option<IpAddr>>,
}

impl FollowedAddresses {
    pub fn new(node: Vec<IpAddr>) -> Self {
        Self {
            machine: watch::Sender::new(node.clone()),
            node: watch::Sender::new(node),
            missing: watch::Sender::new(None),
        }
    }
}

/// The addresses of a machine.
struct Machine {
    all: BTreeSet<IpAddr>,
    reachable: Vec<IpAddr>,
}

impl Machine {
    fn look() -> Result<Self, Error> {
        let mut socket = RouteSocket::open().map_err(node("open a netlink socket"))?;
        let present = socket.addresses().map_err(node("list addresses"))?;
        let links = socket.links().map_err(node("list links"))?;
        let uplinks = links.iter().filter(|link| is_somebody_elses_uplink(link));
        let uplinks: BTreeSet<u32> = uplinks.map(|link| link.index).collect();
        let reachable = present
            .iter()
            .filter(|one| one.scope == 0 && uplinks.contains(&one.link));
        let reachable: BTreeSet<IpAddr> = reachable.map(|one| one.address).collect();
        Ok(Self {
            all: present.iter().map(|one| one.address).collect(),
            reachable: reachable.into_iter().collect(),
        })
    }
}

fn set<T: PartialEq>(value: &watch::Sender<T>, next: T) {
    value.send_if_modified(|before| {
        let is_news = *before != next;
        *before = next;
        is_news
    });
}

/// Addresses that are valid everywhere, default routes, which choose among them, and links that come, go and are switched.
fn matters(seen: &Seen) -> bool {
    match seen {
        Seen::Address(address) | Seen::AddressGone(address) => address.scope == 0,
        Seen::Route(route) | Seen::RouteGone(route) => route.prefix_length == 0,
        Seen::Link(link) | Seen::LinkGone(link) => may_be_uplink(link),
        Seen::Neighbour(_) | Seen::NeighbourGone(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(cluster_cidrs: &[&str]) -> AddressRule {
        let ranges = cluster_cidrs.iter();
        AddressRule {
            said: None,
            interface: None,
            cluster_cidrs: ranges.map(|range| range.parse().unwrap()).collect(),
        }
    }

    fn settle(rule: &AddressRule, current: &[&str], found: &[&str], present: &[&str]) -> String {
        let parse = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let present: Vec<Address> = parse(present)
            .into_iter()
            .map(|address| Address {
                link: 2,
                address,
                prefix_length: 24,
                scope: 0,
            })
            .collect();
        let settled = rule.settle(&parse(current), &parse(found), &present);
        settled
            .iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }

    #[test]
    fn an_address_stays_the_nodes_while_the_machine_has_it() {
        let rule = rule(&["10.42.0.0/16"]);
        let both = ["192.0.2.1", "198.51.100.1"];
        assert_eq!(
            settle(&rule, &["192.0.2.1"], &["198.51.100.1"], &both),
            "192.0.2.1"
        );
        assert_eq!(
            settle(&rule, &["192.0.2.1"], &["198.51.100.1"], &both[1..]),
            "198.51.100.1"
        );
    }

    #[test]
    fn the_families_are_those_of_pods_in_their_order() {
        let found = ["192.0.2.1", "2001:db8::1"];
        let settle = |cluster: &[&str]| settle(&rule(cluster), &[], &found, &found);
        assert_eq!(settle(&["10.42.0.0/16"]), "192.0.2.1");
        assert_eq!(
            settle(&["fd42::/56", "10.42.0.0/16"]),
            "2001:db8::1,192.0.2.1"
        );
        let only_v6 = rule(&["10.42.0.0/16"]).settle(&[], &["2001:db8::1".parse().unwrap()], &[]);
        assert_eq!(only_v6, ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    }
}

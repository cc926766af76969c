//! Which Service has which addresses; pure. A port of an address belongs to the oldest Service that asks for it, and a
//! Service has an address with all its ports or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use apimachinery::ObjectKey;

use super::facts::{BalancedService, BalancingNode, Port, Reserved};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Allocation {
    /// In the order of the Service's families.
    pub(super) addresses: Vec<IpAddr>,
    /// The first address that somebody else has a port of.
    pub(super) conflict: Option<Conflict>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    port: Port,
    address: IpAddr,
    node: String,
    holder: Holder,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Holder {
    Service(ObjectKey),
    Cluster(&'static str),
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Port { protocol, number } = &self.port;
        let (address, node) = (self.address, &self.node);
        write!(
            formatter,
            "port {number}/{protocol} of node {node} ({address}) "
        )?;
        match &self.holder {
            Holder::Service(key) => write!(
                formatter,
                "is taken by Service {key}, which was there first; this Service gets the address \
                 when that one gives it up"
            ),
            Holder::Cluster(owner) => write!(
                formatter,
                "is {owner}'s own; choose another port for this Service"
            ),
        }
    }
}

pub(super) fn allocate(
    services: &[BalancedService],
    nodes: &[BalancingNode],
    reserved: &Reserved,
) -> BTreeMap<ObjectKey, Allocation> {
    let mut taken: BTreeMap<(IpAddr, Port), Holder> = reserved
        .0
        .iter()
        .map(|(place, owner)| (place.clone(), Holder::Cluster(owner)))
        .collect();
    let mut by_age: Vec<&BalancedService> = services.iter().collect();
    // Times are in whole seconds: among those of one second nobody takes away what another has.
    by_age.sort_by_key(|service| (&service.created, !service.has_address, &service.key));
    let served = by_age.into_iter().map(|service| {
        let allocation = serve(service, nodes, &mut taken);
        (service.key.clone(), allocation)
    });
    served.collect()
}

fn serve(
    service: &BalancedService,
    nodes: &[BalancingNode],
    taken: &mut BTreeMap<(IpAddr, Port), Holder>,
) -> Allocation {
    let mut allocation = Allocation::default();
    for is_v4 in &service.families {
        let mut addresses = BTreeSet::new();
        for node in candidates(service, nodes) {
            for address in node.entrances(*is_v4) {
                let holder = service.ports.iter().find_map(|port| {
                    let holder = taken.get(&(address, port.clone()))?;
                    Some((port.clone(), holder.clone()))
                });
                if let Some((port, holder)) = holder {
                    let node = node.name.clone();
                    allocation.conflict.get_or_insert(Conflict {
                        port,
                        address,
                        node,
                        holder,
                    });
                } else {
                    addresses.insert(address);
                }
            }
        }
        for address in &addresses {
            let places = service.ports.iter().map(|port| (*address, port.clone()));
            taken.extend(places.map(|place| (place, Holder::Service(service.key.clone()))));
        }
        allocation.addresses.extend(addresses);
    }
    allocation
}

/// The nodes that may be entrances to a Service.
fn candidates<'a>(
    service: &'a BalancedService,
    nodes: &'a [BalancingNode],
) -> impl Iterator<Item = &'a BalancingNode> {
    let is_chosen = nodes.iter().any(|node| node.is_enabled);
    nodes.iter().filter(move |node| {
        let in_pool = service
            .pool
            .as_ref()
            .is_none_or(|pool| node.pools.contains(pool));
        let has_endpoints =
            !service.only_where_endpoints_are || service.nodes_with_endpoints.contains(&node.name);
        node.is_ready && has_endpoints && (!is_chosen || (node.is_enabled && in_pool))
    })
}

#[cfg(test)]
mod tests;

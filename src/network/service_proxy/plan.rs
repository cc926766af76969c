//! From what is desired to the whole ruleset; pure.
//!
//! A Service is elements in shared maps: one leads from its address to a chain for its number of endpoints, one per
//! endpoint leads from a random slot to the endpoint. Chains exist once per number of endpoints, not per Service. Only
//! session affinity and source ranges need chains of their own.

use crate::endpoints::{self, Endpoint, Endpoints};
use crate::facts::{
    Desired, HostPort, Locality, NodeFacts, PortFacts, ServiceFacts, ServiceName, TrafficPolicy,
};
use crate::frame::{self, DISCARD, REFUSE};
use crate::steps::{Within, set_masquerade_mark, within};
use linux::netlink::nf_tables::{
    Chain, Data, Expression, Family, FieldKind, Key, Ruleset, Set, SetShape, SetValues, Value,
    Verdict, goto, load_port, octets,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The first slot of a Service's local endpoints; those for all traffic begin at 0.
pub(crate) const LOCAL_SLOTS: u32 = 1 << 16;
/// Clients that an endpoint remembers for session affinity.
const AFFINITY_CLIENTS_MAX: u32 = 65_536;

/// Everything that the table should hold.
pub fn plan(desired: &Desired, node: &NodeFacts) -> Ruleset {
    let mut builder = Builder {
        node,
        ruleset: frame::frame(node),
        names: BTreeMap::new(),
    };
    for (name, service) in &desired.services {
        for port in &service.ports {
            for family in Family::BOTH {
                builder.put_port(desired, name, service, port, family);
            }
        }
    }
    for host_port in desired.host_ports.values().flatten() {
        builder.put_host_port(host_port);
    }
    builder.ruleset
}

struct Builder<'a> {
    node: &'a NodeFacts,
    ruleset: Ruleset,
    /// Each chain's name once.
    names: BTreeMap<String, Arc<str>>,
}

/// One port of one Service in one family.
struct ServicePort<'a> {
    service: &'a ServiceFacts,
    port: &'a PortFacts,
    family: Family,
    endpoints: Endpoints,
    /// A name for chains and sets of its own.
    id: String,
}

/// Which of a Service's endpoints a chain spreads over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Everywhere,
    Here,
}

/// How a chain finds a Service's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyedBy {
    Address,
    NodePort,
}

/// What happens to packets for a place.
enum Fate {
    Goto(String),
    Refuse,
}

impl Builder<'_> {
    fn put_port(
        &mut self,
        desired: &Desired,
        name: &ServiceName,
        service: &ServiceFacts,
        port: &PortFacts,
        family: Family,
    ) {
        let of_family = |address: &&IpAddr| Family::of(**address) == family;
        if !service
            .cluster_ips
            .iter()
            .any(|address| of_family(&address))
        {
            return;
        }
        let endpoints = endpoints::choose(desired, name, port, family.is_v4());
        let id = family.name(&format!("svc{:012x}-", hash(name, port)));
        let served = ServicePort {
            service,
            port,
            family,
            endpoints,
            id,
        };
        if service.affinity_seconds.is_some() {
            self.put_affinity(&served);
        }
        for address in service.cluster_ips.iter().filter(of_family) {
            let fate = self.internal_fate(&served);
            self.put_address(&served, *address, &fate);
            self.put(
                family,
                frame::CLUSTER_IPS,
                Key::new().field(&octets(*address)),
                Value::None,
            );
        }
        for address in service.external_ips.iter().filter(of_family) {
            let fate = self.external_fate(&served, KeyedBy::Address);
            self.put_address(&served, *address, &fate);
        }
        for address in service.load_balancer_ips.iter().filter(of_family) {
            let fate = self.external_fate(&served, KeyedBy::Address);
            let fate = self.guarded(&served, *address, fate);
            self.put_address(&served, *address, &fate);
        }
        if let Some(node_port) = port.node_port {
            let fate = self.external_fate(&served, KeyedBy::NodePort);
            self.put_node_port(&served, node_port, &fate);
        }
        self.put_hairpins(&served);
    }

    fn put_address(&mut self, served: &ServicePort<'_>, address: IpAddr, fate: &Fate) {
        let place = |key: Key| {
            let key = key
                .field(&octets(address))
                .field(&[served.port.protocol.number()]);
            key.field(&served.port.port.to_be_bytes())
        };
        self.put_fate(
            served.family,
            fate,
            frame::SERVICES,
            frame::UNSERVED,
            place(Key::new()),
        );
        self.put_slots(served, frame::ENDPOINTS, place);
    }

    fn put_node_port(&mut self, served: &ServicePort<'_>, node_port: u16, fate: &Fate) {
        let place = |key: Key| {
            key.field(&[served.port.protocol.number()])
                .field(&node_port.to_be_bytes())
        };
        self.put_fate(
            served.family,
            fate,
            frame::NODE_PORTS,
            frame::UNSERVED_NODE_PORTS,
            place(Key::new()),
        );
        self.put_slots(served, frame::NODE_ENDPOINTS, place);
    }

    fn put_fate(&mut self, family: Family, fate: &Fate, served: &str, unserved: &str, key: Key) {
        match fate {
            Fate::Goto(chain) => {
                let name = self.name(chain);
                self.put(family, served, key, Value::Goto(name));
            }
            Fate::Refuse => {
                let name = self.name(REFUSE);
                self.put(family, unserved, key, Value::Goto(name));
            }
        }
    }

    /// The elements that lead from slots to endpoints. Affinity has maps of its own.
    fn put_slots(&mut self, served: &ServicePort<'_>, stem: &str, place: impl Fn(Key) -> Key) {
        if served.service.affinity_seconds.is_some() {
            return;
        }
        for group in [Group::Everywhere, Group::Here] {
            if group == Group::Here && !served.uses_local() {
                continue;
            }
            for (slot, endpoint) in (group.first_slot()..).zip(served.group(group)) {
                let key = place(Key::new().field(&slot.to_ne_bytes()));
                self.put(served.family, stem, key, Value::Data(place_of(*endpoint)));
            }
        }
    }

    fn put_hairpins(&mut self, served: &ServicePort<'_>) {
        let both = served
            .endpoints
            .everywhere
            .iter()
            .chain(&served.endpoints.here);
        for endpoint in both.filter(|endpoint| endpoint.locality != Locality::Elsewhere) {
            self.put_hairpin(endpoint.address);
        }
    }

    fn put_hairpin(&mut self, address: IpAddr) {
        if self
            .node
            .cluster_cidrs
            .iter()
            .any(|range| range.contains(&address))
        {
            let key = Key::new().field(&octets(address)).field(&octets(address));
            self.put(Family::of(address), frame::HAIRPIN, key, Value::None);
        }
    }

    fn put_host_port(&mut self, host_port: &HostPort) {
        let family = Family::of(host_port.pod_ip);
        let target = Endpoint {
            address: host_port.pod_ip,
            port: host_port.container_port,
            locality: Locality::Here,
        };
        let (stem, key) = match host_port.host_ip {
            Some(address) => (frame::HOST_PORTS, Key::new().field(&octets(address))),
            None => (frame::HOST_PORTS_ANYWHERE, Key::new()),
        };
        let key = key
            .field(&[host_port.protocol.number()])
            .field(&host_port.host_port.to_be_bytes());
        self.put(family, stem, key, Value::Data(place_of(target)));
        self.put_hairpin(host_port.pod_ip);
    }

    /// Traffic to a cluster IP: from outside the cluster it is masqueraded.
    fn internal_fate(&mut self, served: &ServicePort<'_>) -> Fate {
        if served.endpoints.everywhere.is_empty() && served.endpoints.here.is_empty() {
            return Fate::Refuse;
        }
        let group = match served.service.internal_traffic {
            TrafficPolicy::Cluster => Group::Everywhere,
            TrafficPolicy::Local => Group::Here,
        };
        let target = self.spread(served, group, KeyedBy::Address);
        if target == DISCARD {
            return Fate::Goto(target);
        }
        let name = format!("in-{target}");
        let mut rules = frame::mark_outsiders(self.node, served.family);
        rules.push(vec![goto(&target)]);
        self.chain(&name, rules);
        Fate::Goto(name)
    }

    /// Traffic to an address or port outside: masqueraded, so that the answer comes back this way, unless the policy is
    /// `Local`; then the client's address is kept, and only the cluster's own traffic may go to other nodes.
    fn external_fate(&mut self, served: &ServicePort<'_>, keyed_by: KeyedBy) -> Fate {
        if served.endpoints.everywhere.is_empty() && served.endpoints.here.is_empty() {
            return Fate::Refuse;
        }
        let everywhere = self.spread(served, Group::Everywhere, keyed_by);
        match served.service.external_traffic {
            TrafficPolicy::Cluster => {
                let name = format!("ex-{everywhere}");
                let mut rule = set_masquerade_mark();
                rule.push(goto(&everywhere));
                self.chain(&name, vec![rule]);
                Fate::Goto(name)
            }
            TrafficPolicy::Local => {
                let here = self.spread(served, Group::Here, keyed_by);
                let name = format!("lo-{everywhere}-{here}");
                let mut rules = frame::insiders_to(self.node, served.family, &everywhere);
                rules.push(vec![goto(&here)]);
                self.chain(&name, rules);
                Fate::Goto(name)
            }
        }
    }

    /// Lets only the allowed sources through to a load balancer's address.
    fn guarded(&mut self, served: &ServicePort<'_>, address: IpAddr, fate: Fate) -> Fate {
        let ranges = &served.service.load_balancer_source_ranges;
        let Fate::Goto(target) = &fate else {
            return fate;
        };
        if ranges.is_empty() {
            return fate;
        }
        let family = served.family;
        let name = format!("guard-{}-{address}", served.id).replace(':', ".");
        // A node that holds the address itself sends with it.
        let own = ipnet::IpNet::from(address);
        let of_family = ranges
            .iter()
            .filter(|range| range.network().is_ipv4() == family.is_v4());
        let mut rules: Vec<Vec<Expression>> = of_family
            .copied()
            .chain([own])
            .map(|range| {
                let mut rule = family.only();
                rule.extend(within(family.source(), range, Within::Inside));
                rule.push(goto(target));
                rule
            })
            .collect();
        rules.push(vec![Expression::Decide(Verdict::Drop)]);
        self.chain(&name, rules);
        Fate::Goto(name)
    }

    /// The chain that spreads over a group of endpoints, made if it is missing; `DISCARD` if the group is empty.
    fn spread(&mut self, served: &ServicePort<'_>, group: Group, keyed_by: KeyedBy) -> String {
        let count =
            u32::try_from(served.group(group).len()).expect("a Service has far fewer endpoints");
        if count == 0 {
            return DISCARD.to_owned();
        }
        if served.service.affinity_seconds.is_some() {
            return affinity_chain(served, group);
        }
        let family = served.family;
        let stem = match (group, keyed_by) {
            (Group::Everywhere, KeyedBy::Address) => "spread",
            (Group::Everywhere, KeyedBy::NodePort) => "spread-node",
            (Group::Here, KeyedBy::Address) => "spread-here",
            (Group::Here, KeyedBy::NodePort) => "spread-node-here",
        };
        let name = format!("{}-{count}", family.name(stem));
        let mut rule = family.only();
        rule.push(Expression::Random {
            modulus: count,
            offset: group.first_slot(),
            register: 0,
        });
        let (key, stem, behind) = match keyed_by {
            KeyedBy::Address => (
                family.load_destination(1),
                frame::ENDPOINTS,
                3 + family.registers(),
            ),
            KeyedBy::NodePort => (load_port(1), frame::NODE_ENDPOINTS, 3),
        };
        rule.extend(key);
        rule.extend(frame::translate(family, stem, behind));
        self.chain(&name, vec![rule]);
        name
    }

    /// Chains and sets that remember which endpoint a client had. They do not look at the packet's destination, so all
    /// addresses and the node port of the Service share them.
    fn put_affinity(&mut self, served: &ServicePort<'_>) {
        let slots = format!("affinity-{}", served.id);
        let shape = SetShape {
            key: vec![FieldKind::Number],
            values: SetValues::Verdicts,
        };
        let mut elements = BTreeMap::new();
        for group in [Group::Everywhere, Group::Here] {
            let members = served.group(group);
            if members.is_empty() || (group == Group::Here && !served.uses_local()) {
                continue;
            }
            let mut rules = Vec::new();
            for (slot, endpoint) in (group.first_slot()..).zip(members) {
                let chain = self.put_affine_endpoint(served, *endpoint);
                let mut rule = served.family.only();
                rule.push(Expression::Load(served.family.source(), 0));
                rule.push(Expression::Among {
                    set: clients_of(served, *endpoint),
                    key: 0,
                });
                rule.push(goto(&chain));
                rules.push(rule);
                elements.insert(
                    Key::new().field(&slot.to_ne_bytes()),
                    Value::Goto(self.name(&chain)),
                );
            }
            let modulus = u32::try_from(members.len()).expect("a Service has far fewer endpoints");
            rules.push(vec![
                Expression::Random {
                    modulus,
                    offset: group.first_slot(),
                    register: 0,
                },
                Expression::VerdictMap {
                    set: slots.clone(),
                    key: 0,
                },
            ]);
            self.chain(&affinity_chain(served, group), rules);
        }
        if !elements.is_empty() {
            self.ruleset.sets.insert(slots, Set { shape, elements });
        }
    }

    fn put_affine_endpoint(&mut self, served: &ServicePort<'_>, endpoint: Endpoint) -> String {
        let family = served.family;
        let clients = clients_of(served, endpoint);
        let chain = format!("to-{clients}");
        let timeout_ms = u64::from(served.service.affinity_seconds.unwrap_or(1)) * 1000;
        let values = SetValues::Remembered {
            timeout_ms,
            entries_max: AFFINITY_CLIENTS_MAX,
        };
        let shape = SetShape {
            key: vec![family.address_kind()],
            values,
        };
        self.ruleset.sets.entry(clients.clone()).or_insert(Set {
            shape,
            elements: BTreeMap::new(),
        });
        let port = family.registers();
        let mut remember = family.only();
        remember.push(Expression::Load(family.source(), 0));
        remember.push(Expression::Remember {
            set: clients,
            key: 0,
            timeout_ms,
        });
        // A rule of its own: when there is no room for one more client it is served all the same.
        let mut translate = family.only();
        translate.extend([
            Expression::Constant {
                register: 0,
                value: octets(endpoint.address),
            },
            Expression::Constant {
                register: port,
                value: endpoint.port.to_be_bytes().to_vec(),
            },
            Expression::DestinationNat {
                family: family.nat(),
                address: 0,
                port,
            },
        ]);
        self.chain(&chain, vec![remember, translate]);
        chain
    }

    /// Where two Services claim the same place, the first by name has it.
    fn put(&mut self, family: Family, stem: &str, key: Key, value: Value) {
        let set = self
            .ruleset
            .sets
            .get_mut(&family.name(stem))
            .expect("the frame has all shared sets");
        set.elements.entry(key).or_insert(value);
    }

    fn chain(&mut self, name: &str, rules: Vec<Vec<Expression>>) {
        if !self.ruleset.chains.contains_key(name) {
            self.ruleset
                .chains
                .insert(name.to_owned(), Chain { hook: None, rules });
        }
    }

    fn name(&mut self, chain: &str) -> Arc<str> {
        if let Some(known) = self.names.get(chain) {
            return Arc::clone(known);
        }
        let name: Arc<str> = chain.into();
        self.names.insert(chain.to_owned(), Arc::clone(&name));
        name
    }
}

impl ServicePort<'_> {
    fn group(&self, group: Group) -> &[Endpoint] {
        match group {
            Group::Everywhere => &self.endpoints.everywhere,
            Group::Here => &self.endpoints.here,
        }
    }

    fn uses_local(&self) -> bool {
        self.service.internal_traffic == TrafficPolicy::Local
            || self.service.external_traffic == TrafficPolicy::Local
    }
}

impl Group {
    fn first_slot(self) -> u32 {
        match self {
            Self::Everywhere => 0,
            Self::Here => LOCAL_SLOTS,
        }
    }
}

fn affinity_chain(served: &ServicePort<'_>, group: Group) -> String {
    match group {
        Group::Everywhere => format!("affine-{}", served.id),
        Group::Here => format!("affine-here-{}", served.id),
    }
}

/// The set of clients that an endpoint has; named by the endpoint, so that it survives changes of the others.
fn clients_of(served: &ServicePort<'_>, endpoint: Endpoint) -> String {
    format!("{}-{}-{}", served.id, endpoint.address, endpoint.port).replace(':', ".")
}

fn place_of(endpoint: Endpoint) -> Data {
    Data::new()
        .field(&octets(endpoint.address))
        .field(&endpoint.port.to_be_bytes())
}

/// A stable short name for a port of a Service (FNV-1a).
fn hash(service: &ServiceName, port: &PortFacts) -> u64 {
    let parts = [
        service.namespace.as_bytes(),
        service.name.as_bytes(),
        port.name.as_bytes(),
    ];
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    let tail = [port.protocol.number()];
    for byte in parts
        .iter()
        .flat_map(|part| part.iter().chain(b"/"))
        .chain(&tail)
    {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    sum >> 16
}

//! From what is desired to the whole ruleset; pure.
//!
//! A packet between pods is asked about twice: may its sender send it, may its receiver get it. Each question is a base
//! chain of its own, so that "accept" ends one and not the other. A map leads from a pod's address to a chain for the
//! *list* of policies that select it, which jumps to the chain of each policy in turn and drops what none accepted. Peers,
//! blocks and ports are sets: a pod more or less is elements.

use crate::facts::{Block, Desired, NamedPort, Peer, Port, PortChoice, Protocol, Rule};
use crate::frame::{Direction, ITSELF, accept, among, put, put_frame, put_set};
use crate::peers::{DNS_PORT, Pod, World};
use crate::ranges::{self, address_at, addresses_in, merge};
use apimachinery::ObjectKey;
use linux::netlink::nf_tables::{
    Chain, Expression, Family, Field, FieldKind, Key, Ruleset, SetValues, Value, Verdict, jump,
    load_port, octets,
};
use ring::digest::{SHA256, digest};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::net::IpAddr;

/// Longer names of policies are replaced by a hash; the kernel takes 255 bytes.
const CHAIN_NAME_BYTES_MAX: usize = 200;

/// Everything that the table should hold; nothing at all while no pod of this node is isolated.
pub fn plan(desired: &Desired) -> Ruleset {
    let mut builder = Builder {
        world: World::new(desired),
        ruleset: Ruleset::default(),
    };
    let mut isolation: BTreeMap<(usize, Direction), Vec<String>> = BTreeMap::new();
    for (key, policy) in &desired.policies {
        let selected = builder.world.selected(&key.namespace, &policy.pods);
        if selected.is_empty() {
            continue;
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            let Some(rules) = direction.rules(policy) else {
                continue;
            };
            let chain = builder.put_policy(key, direction, rules, &selected);
            for pod in &selected {
                let policies = isolation.entry((*pod, direction)).or_default();
                policies.push(chain.clone());
            }
        }
    }
    if !isolation.is_empty() {
        put_frame(&mut builder.ruleset);
    }
    for ((pod, direction), policies) in &isolation {
        builder.isolate(*pod, *direction, policies);
    }
    builder.ruleset
}

struct Builder<'a> {
    world: World<'a>,
    ruleset: Ruleset,
}

/// One rule of a policy in one family.
struct Place<'a> {
    namespace: &'a str,
    direction: Direction,
    family: Family,
    rule: &'a Rule,
    /// A name for sets of its own.
    id: String,
}

impl Builder<'_> {
    /// The chain of a policy accepts what the policy allows. Returns its name.
    fn put_policy(
        &mut self,
        key: &ObjectKey,
        direction: Direction,
        rules: &[Rule],
        selected: &[usize],
    ) -> String {
        let name = chain_name(key, direction);
        let mut chain = Chain::default();
        for (number, rule) in rules.iter().enumerate() {
            for family in Family::BOTH {
                let id = family.name(&format!("places-{}-", hash(&(&name, number))));
                let place = Place {
                    namespace: &key.namespace,
                    direction,
                    family,
                    rule,
                    id,
                };
                for mut way in self.ways(&place, selected) {
                    let mut steps = family.only();
                    steps.append(&mut way);
                    steps.push(accept());
                    chain.rules.push(steps);
                }
            }
        }
        self.ruleset.chains.insert(name.clone(), chain);
        name
    }

    fn isolate(&mut self, pod: usize, direction: Direction, policies: &[String]) {
        let name = format!("{}-of-{}", direction.word(), hash(&policies));
        if !self.ruleset.chains.contains_key(&name) {
            let mut rules: Vec<_> = policies.iter().map(|chain| vec![jump(chain)]).collect();
            rules.push(vec![Expression::Count, Expression::Decide(Verdict::Drop)]);
            let chain = Chain { hook: None, rules };
            self.ruleset.chains.insert(name.clone(), chain);
        }
        for address in self.world.pods[pod].addresses.iter() {
            let (family, key) = (Family::of(*address), Key::new().field(&octets(*address)));
            let goto = Value::Goto(name.as_str().into());
            put(&mut self.ruleset, &direction.isolated(family), key, goto);
            let twice = key.field(&octets(*address));
            put(&mut self.ruleset, &family.name(ITSELF), twice, Value::None);
        }
    }

    /// The conditions under which a rule lets packets through; one of them is enough.
    fn ways(&mut self, place: &Place<'_>, selected: &[usize]) -> Vec<Vec<Expression>> {
        let peers = self.peer_conditions(place);
        let mut ports = Vec::new();
        if place.rule.ports.is_empty() {
            ports.push(Vec::new());
        }
        ports.extend(self.numbered_ports(&place.rule.ports));
        let mut ways = Vec::new();
        match place.direction {
            Direction::Ingress => ports.extend(self.named_ports_of(place, selected)),
            // These have the peer's address in them.
            Direction::Egress => ways.extend(self.named_ports_of_peers(place)),
        }
        for peer in &peers {
            ways.extend(ports.iter().map(|port| [&peer[..], &port[..]].concat()));
        }
        ways
    }

    fn peer_conditions(&mut self, place: &Place<'_>) -> Vec<Vec<Expression>> {
        if place.rule.peers.is_empty() {
            return vec![Vec::new()];
        }
        let family = place.family;
        let load = Expression::Load(place.direction.peer_address(family), 0);
        let mut conditions = Vec::new();
        if let Some(set) = self.put_peers(place) {
            conditions.push(vec![load.clone(), among(set)]);
        }
        if let Some(set) = self.put_blocks(place) {
            let protocol = Expression::Load(Field::TransportProtocol, family.registers());
            conditions.push(vec![load, protocol, among(set)]);
        }
        conditions
    }

    /// The set of the pods that selectors find. It is named by the selectors, so that pods come and go as elements.
    fn put_peers(&mut self, place: &Place<'_>) -> Option<String> {
        let selectors: Vec<&Peer> = place
            .rule
            .peers
            .iter()
            .filter(|peer| matches!(peer, Peer::Pods { .. }))
            .collect();
        if selectors.is_empty() {
            return None;
        }
        let family = place.family;
        let name = family.name(&format!("peers-{}-", hash(&(place.namespace, &selectors))));
        if !self.ruleset.sets.contains_key(&name) {
            let kind = [family.address_kind()];
            put_set(&mut self.ruleset, name.clone(), &kind, SetValues::None);
            let found = self.world.pods.iter().filter(|pod| {
                let mut selectors = selectors.iter();
                selectors.any(|peer| self.world.means(peer, place.namespace, pod))
            });
            let addresses = found.flat_map(|pod| pod.addresses.iter());
            for address in addresses.filter(|address| Family::of(**address) == family) {
                let key = Key::new().field(&octets(*address));
                put(&mut self.ruleset, &name, key, Value::None);
            }
        }
        Some(name)
    }

    /// The set of the addresses in blocks; every protocol is among them, because a set of ranges needs a second field.
    fn put_blocks(&mut self, place: &Place<'_>) -> Option<String> {
        let family = place.family;
        let ranges = addresses_in(blocks(place.rule), family);
        if ranges.is_empty() {
            return None;
        }
        let name = family.name(&format!("blocks-{}-", hash(&ranges)));
        let kinds = [family.address_kind(), FieldKind::Protocol];
        put_set(&mut self.ruleset, name.clone(), &kinds, SetValues::Ranges);
        for (first, last) in ranges {
            let end = |number: u128, protocol: u8| {
                let key = Key::new().field(&octets(address_at(family, number)));
                key.field(&[protocol])
            };
            let through = Value::Through(end(last, u8::MAX));
            put(&mut self.ruleset, &name, end(first, 0), through);
        }
        Some(name)
    }

    fn numbered_ports(&mut self, ports: &[Port]) -> Option<Vec<Expression>> {
        let mut by_protocol: BTreeMap<Protocol, Vec<ranges::Range>> = BTreeMap::new();
        for port in ports {
            if let PortChoice::Range(first, last) = port.choice {
                let ranges = by_protocol.entry(port.protocol).or_default();
                ranges.push((first.into(), last.into()));
            }
        }
        if by_protocol.is_empty() {
            return None;
        }
        for ranges in by_protocol.values_mut() {
            *ranges = merge(std::mem::take(ranges));
        }
        let name = format!("ports-{}", hash(&by_protocol));
        let kinds = [FieldKind::Protocol, FieldKind::Port];
        put_set(&mut self.ruleset, name.clone(), &kinds, SetValues::Ranges);
        for (protocol, (first, last)) in by_protocol
            .iter()
            .flat_map(|(protocol, ranges)| ranges.iter().map(move |range| (*protocol, *range)))
        {
            let end = |number: u128| {
                let number = u16::try_from(number).expect("ports were numbers of 16 bits");
                let key = Key::new().field(&[protocol.number()]);
                key.field(&number.to_be_bytes())
            };
            let through = Value::Through(end(last));
            put(&mut self.ruleset, &name, end(first), through);
        }
        let mut steps = load_port(0);
        steps.push(among(name));
        Some(steps)
    }

    /// The selected pods' own ports of the names in a rule.
    fn named_ports_of(&mut self, place: &Place<'_>, selected: &[usize]) -> Option<Vec<Expression>> {
        let has_names = place.rule.ports.iter().any(is_named);
        let pods = selected.iter().map(|pod| &self.world.pods[*pod]);
        let keys: Vec<Key> = pods
            .flat_map(|pod| places_of(pod, place).map(|(_, key)| key))
            .collect();
        has_names.then(|| self.put_places(place, keys))
    }

    /// The peers' ports of the names in a rule, and the cluster's DNS if the rule means it.
    fn named_ports_of_peers(&mut self, place: &Place<'_>) -> Option<Vec<Expression>> {
        let has_names = place.rule.ports.iter().any(is_named);
        let allowed = addresses_in(blocks(place.rule), place.family);
        let mut keys: Vec<Key> = Vec::new();
        for pod in self.world.pods.iter().filter(|_| has_names) {
            let mut peers = place.rule.peers.iter();
            let is_meant = place.rule.peers.is_empty()
                || peers.any(|peer| self.world.means(peer, place.namespace, pod));
            let in_block = |key: &(IpAddr, Key)| is_meant || ranges::contains(&allowed, key.0);
            keys.extend(places_of(pod, place).filter(in_block).map(|(_, key)| key));
        }
        let dns = self.dns_keys(place, &allowed);
        let is_needed = has_names || !dns.is_empty();
        keys.extend(dns);
        is_needed.then(|| self.put_places(place, keys))
    }

    /// The DNS answers at another port than the one that policies speak of.
    fn dns_keys(&self, place: &Place<'_>, allowed: &[ranges::Range]) -> Vec<Key> {
        let mut peers = place.rule.peers.iter();
        let is_meant = place.rule.peers.is_empty()
            || peers.any(|peer| self.world.means_dns(peer, place.namespace));
        let has_port = |protocol: Protocol, name: &str| {
            let ports = &place.rule.ports;
            ports.is_empty()
                || ports.iter().any(|port| {
                    port.protocol == protocol
                        && match &port.choice {
                            PortChoice::Range(first, last) => (*first..=*last).contains(&DNS_PORT),
                            PortChoice::Named(known) => known == name,
                        }
                })
        };
        let dns = self.world.dns.iter();
        dns.filter(|dns| Family::of(dns.address) == place.family)
            .filter(|dns| is_meant || ranges::contains(allowed, dns.address))
            .filter(|dns| has_port(dns.protocol, &dns.name))
            .map(|dns| place_key(dns.address, dns.protocol, dns.port))
            .collect()
    }

    /// A set of exact addresses and ports, and the condition that a packet goes to one of them.
    fn put_places(&mut self, place: &Place<'_>, keys: Vec<Key>) -> Vec<Expression> {
        let address = place.family.address_kind();
        let kinds = [address, FieldKind::Protocol, FieldKind::Port];
        put_set(&mut self.ruleset, place.id.clone(), &kinds, SetValues::None);
        for key in keys {
            put(&mut self.ruleset, &place.id, key, Value::None);
        }
        let mut steps = place.family.load_destination(0);
        steps.push(among(place.id.clone()));
        steps
    }
}

/// Where the ports that a rule names are in a pod.
fn places_of<'a>(
    pod: &'a Pod<'_>,
    place: &'a Place<'_>,
) -> impl Iterator<Item = (IpAddr, Key)> + 'a {
    let named = |port: &NamedPort| {
        place.rule.ports.iter().any(|wanted| {
            wanted.protocol == port.protocol
                && matches!(&wanted.choice, PortChoice::Named(name) if *name == port.name)
        })
    };
    let ports = pod.ports.iter().filter(move |port| named(port));
    ports.flat_map(|port| {
        let addresses = pod.addresses.iter();
        addresses
            .filter(|address| Family::of(**address) == place.family)
            .map(|address| (*address, place_key(*address, port.protocol, port.port)))
    })
}

fn place_key(address: IpAddr, protocol: Protocol, port: u16) -> Key {
    let key = Key::new().field(&octets(address));
    key.field(&[protocol.number()]).field(&port.to_be_bytes())
}

fn is_named(port: &Port) -> bool {
    matches!(port.choice, PortChoice::Named(_))
}

fn blocks(rule: &Rule) -> impl Iterator<Item = &Block> {
    rule.peers.iter().filter_map(|peer| match peer {
        Peer::Block(block) => Some(block),
        Peer::Pods { .. } => None,
    })
}

/// Readable for people who list the rules: `ingress-<namespace>/<name>`.
fn chain_name(key: &ObjectKey, direction: Direction) -> String {
    let name = format!("{}-{key}", direction.word());
    if name.len() <= CHAIN_NAME_BYTES_MAX {
        name
    } else {
        format!("{}-{}", direction.word(), hash(&name))
    }
}

/// A name for content. People write policies, so it must be one that nobody can make two contents have.
fn hash(content: &impl Debug) -> String {
    const NAME_BYTES: usize = 16;
    let sum = digest(&SHA256, format!("{content:?}").as_bytes());
    let bytes = sum.as_ref().iter().take(NAME_BYTES);
    bytes.fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[cfg(test)]
mod tests;

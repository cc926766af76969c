//! The part of the table that is the same whatever Services there are: hooks, lookups, masquerading, refusal.

use crate::facts::NodeFacts;
use crate::steps::{Within, set_masquerade_mark, take_masquerade_mark, within};
use linux::netlink::nf_tables::{
    Chain, Expression, Family, Field, FieldKind, Hook, HookKind, HookPoint, Rejection, Ruleset,
    Set, SetShape, SetValues, Verdict, any_bit, from_this_node, goto, jump, load_port,
};
use std::collections::BTreeMap;

/// destination . protocol . port : where to go on
pub(crate) const SERVICES: &str = "services";
/// slot . destination . protocol . port : address . port
pub(crate) const ENDPOINTS: &str = "endpoints";
/// protocol . port : where to go on
pub(crate) const NODE_PORTS: &str = "node-ports";
/// slot . protocol . port : address . port
pub(crate) const NODE_ENDPOINTS: &str = "node-endpoints";
/// As `SERVICES`, for Services without endpoints; asked before any translation.
pub(crate) const UNSERVED: &str = "unserved";
/// As `NODE_PORTS`, likewise.
pub(crate) const UNSERVED_NODE_PORTS: &str = "unserved-node-ports";
/// destination . protocol . port : address . port of a pod
pub(crate) const HOST_PORTS: &str = "host-ports";
/// protocol . port : address . port of a pod, for all addresses of the node
pub(crate) const HOST_PORTS_ANYWHERE: &str = "host-ports-anywhere";
/// pod . pod, for the pods of this node that can reach themselves through a Service
pub(crate) const HAIRPIN: &str = "hairpin";
/// Cluster IPs; what is still addressed to one after translation met no port of the Service.
pub(crate) const CLUSTER_IPS: &str = "cluster-ips";

/// Refuses a connection: reset, or port unreachable.
pub(crate) const REFUSE: &str = "refuse";
/// Drops a connection: the policy is `Local` and the endpoints are elsewhere.
pub(crate) const DISCARD: &str = "discard";

const STATE_INVALID: u32 = 1;
const STATE_NEW: u32 = 8;
const STATUS_DESTINATION_TRANSLATED: u32 = 0x20;
const TRANSLATION_PRIORITY: i32 = -100;
const MASQUERADE_PRIORITY: i32 = 100;
/// Before the translation.
const REFUSAL_PRIORITY: i32 = -110;
/// After the translation.
const STRAY_PRIORITY: i32 = -10;

/// The ruleset of a cluster without Services.
pub(crate) fn frame(node: &NodeFacts) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for family in Family::BOTH {
        put_sets(&mut ruleset, family);
    }
    put_hooks(&mut ruleset);
    ruleset
        .chains
        .insert("drop-invalid".to_owned(), drop_invalid(node));
    put_lookups(&mut ruleset);
    ruleset
        .chains
        .insert("masquerading".to_owned(), masquerading(node));
    put_refusals(&mut ruleset);
    ruleset
}

fn put_sets(ruleset: &mut Ruleset, family: Family) {
    use FieldKind::{Number, Port, Protocol};
    let address = family.address_kind();
    let place = || SetValues::Data(vec![address, Port]);
    let mut put = |stem: &str, key: &[FieldKind], values: SetValues| {
        let shape = SetShape {
            key: key.to_vec(),
            values,
        };
        ruleset.sets.insert(
            family.name(stem),
            Set {
                shape,
                elements: BTreeMap::new(),
            },
        );
    };
    put(SERVICES, &[address, Protocol, Port], SetValues::Verdicts);
    put(ENDPOINTS, &[Number, address, Protocol, Port], place());
    put(NODE_PORTS, &[Protocol, Port], SetValues::Verdicts);
    put(NODE_ENDPOINTS, &[Number, Protocol, Port], place());
    put(UNSERVED, &[address, Protocol, Port], SetValues::Verdicts);
    put(UNSERVED_NODE_PORTS, &[Protocol, Port], SetValues::Verdicts);
    put(HOST_PORTS, &[address, Protocol, Port], place());
    put(HOST_PORTS_ANYWHERE, &[Protocol, Port], place());
    put(HAIRPIN, &[address, address], SetValues::None);
    put(CLUSTER_IPS, &[address], SetValues::None);
}

fn put_hooks(ruleset: &mut Ruleset) {
    use HookKind::{Filter, Nat};
    use HookPoint::{Forward, Output, Postrouting, Prerouting};
    let new_only = |chain: &str| {
        let mut rule = any_bit(Field::ConnectionState, STATE_NEW);
        rule.push(jump(chain));
        rule
    };
    let mut put = |name: &str, kind, point, priority, rule| {
        let hook = Some(Hook {
            kind,
            point,
            priority,
        });
        let rules = vec![rule];
        ruleset
            .chains
            .insert(name.to_owned(), Chain { hook, rules });
    };
    // The kernel asks the chains of kind `nat` for the first packet of a connection only.
    let translate = vec![jump("translation")];
    put(
        "prerouting",
        Nat,
        Prerouting,
        TRANSLATION_PRIORITY,
        translate.clone(),
    );
    put("output", Nat, Output, TRANSLATION_PRIORITY, translate);
    put(
        "postrouting",
        Nat,
        Postrouting,
        MASQUERADE_PRIORITY,
        vec![jump("masquerading")],
    );
    for (name, point) in [("filter-prerouting", Prerouting), ("filter-output", Output)] {
        put(name, Filter, point, REFUSAL_PRIORITY, new_only("refusal"));
    }
    for (name, point) in [("stray-forward", Forward), ("stray-output", Output)] {
        put(name, Filter, point, STRAY_PRIORITY, new_only("stray"));
    }
}

/// A packet of no known connection is not translated back; at its receiver it would tear down the connection that it
/// seems to belong to. Only pods' packets: what else the machine routes is not ours.
fn drop_invalid(node: &NodeFacts) -> Chain {
    let mut rules = Vec::new();
    for range in &node.cluster_cidrs {
        let family = Family::of(range.network());
        for field in [family.source(), family.destination()] {
            let mut rule = family.only();
            rule.extend(within(field, *range, Within::Inside));
            rule.extend(any_bit(Field::ConnectionState, STATE_INVALID));
            rule.push(Expression::Decide(Verdict::Drop));
            rules.push(rule);
        }
    }
    let hook = Hook {
        kind: HookKind::Filter,
        point: HookPoint::Forward,
        priority: STRAY_PRIORITY - 1,
    };
    Chain {
        hook: Some(hook),
        rules,
    }
}

fn put_lookups(ruleset: &mut Ruleset) {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let registers = family.registers();
        let mut by_address = family.only();
        by_address.extend(family.load_destination(0));
        by_address.push(Expression::VerdictMap {
            set: family.name(SERVICES),
            key: 0,
        });
        rules.push(by_address);

        let mut host_port = family.only();
        host_port.extend(family.load_destination(0));
        host_port.extend(translate(family, HOST_PORTS, registers + 2));
        rules.push(host_port);

        let mut this_node = family.to_this_node();
        this_node.push(jump(&family.name("this-node")));
        rules.push(this_node);
        ruleset
            .chains
            .insert(family.name("this-node"), this_node_chain(family));
    }
    ruleset
        .chains
        .insert("translation".to_owned(), Chain { hook: None, rules });
}

fn this_node_chain(family: Family) -> Chain {
    let mut node_port = load_port(0);
    node_port.push(Expression::VerdictMap {
        set: family.name(NODE_PORTS),
        key: 0,
    });
    let mut host_port = family.only();
    host_port.extend(load_port(0));
    host_port.extend(translate(family, HOST_PORTS_ANYWHERE, 2));
    Chain {
        hook: None,
        rules: vec![node_port, host_port],
    }
}

/// Looks the key at register 0 up and sends the packet to the place found; `value` is the first register behind the key.
pub(crate) fn translate(family: Family, stem: &str, value: u32) -> Vec<Expression> {
    let port = value + family.registers();
    vec![
        Expression::Map {
            set: family.name(stem),
            key: 0,
            value,
        },
        Expression::DestinationNat {
            family: family.nat(),
            address: value,
            port,
        },
    ]
}

fn masquerading(node: &NodeFacts) -> Chain {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        // A pod that reaches itself would answer itself directly: the answer has to come back through the node.
        let mut hairpin = any_bit(Field::ConnectionStatus, STATUS_DESTINATION_TRANSLATED);
        hairpin.extend(family.only());
        hairpin.push(Expression::Load(family.source(), 0));
        hairpin.push(Expression::Load(family.destination(), family.registers()));
        hairpin.push(Expression::Among {
            set: family.name(HAIRPIN),
            key: 0,
        });
        hairpin.push(Expression::Masquerade {
            random_ports: false,
        });
        rules.push(hairpin);
    }
    let mut marked = take_masquerade_mark();
    marked.push(Expression::Masquerade { random_ports: true });
    rules.push(marked);
    rules.extend(
        Family::BOTH
            .into_iter()
            .flat_map(|family| to_the_world(node, family)),
    );
    Chain { hook: None, rules }
}

/// Pods speak to the world with the node's address, because nobody outside has a route to them.
fn to_the_world(node: &NodeFacts, family: Family) -> Vec<Vec<Expression>> {
    let inside: Vec<_> = node
        .cluster_cidrs
        .iter()
        .filter(|range| range.network().is_ipv4() == family.is_v4())
        .collect();
    let multicast: ipnet::IpNet = if family.is_v4() {
        "224.0.0.0/4"
    } else {
        "ff00::/8"
    }
    .parse()
    .expect("multicast ranges are well-formed");
    let mut rules = Vec::new();
    for range in &inside {
        let mut rule = family.only();
        rule.extend(within(family.source(), **range, Within::Inside));
        for other in &inside {
            rule.extend(within(family.destination(), **other, Within::Outside));
        }
        rule.extend(within(family.destination(), multicast, Within::Outside));
        rule.push(Expression::Masquerade { random_ports: true });
        rules.push(rule);
    }
    rules
}

fn put_refusals(ruleset: &mut Ruleset) {
    let (mut refusal, mut stray) = (Vec::new(), Vec::new());
    for family in Family::BOTH {
        let mut by_address = family.only();
        by_address.extend(family.load_destination(0));
        by_address.push(Expression::VerdictMap {
            set: family.name(UNSERVED),
            key: 0,
        });
        refusal.push(by_address);
        let mut by_port = family.to_this_node();
        by_port.extend(load_port(0));
        by_port.push(Expression::VerdictMap {
            set: family.name(UNSERVED_NODE_PORTS),
            key: 0,
        });
        refusal.push(by_port);

        let mut untranslated = family.only();
        untranslated.push(Expression::Load(family.destination(), 0));
        untranslated.push(Expression::Among {
            set: family.name(CLUSTER_IPS),
            key: 0,
        });
        untranslated.push(goto(REFUSE));
        stray.push(untranslated);
    }
    let reset = vec![
        Expression::Load(Field::TransportProtocol, 0),
        Expression::Equal(0, vec![6]),
        Expression::Reject(Rejection::TcpReset),
    ];
    let refuse = vec![reset, vec![Expression::Reject(Rejection::PortUnreachable)]];
    let discard = vec![vec![Expression::Decide(Verdict::Drop)]];
    for (name, rules) in [
        ("refusal", refusal),
        ("stray", stray),
        (REFUSE, refuse),
        (DISCARD, discard),
    ] {
        ruleset
            .chains
            .insert(name.to_owned(), Chain { hook: None, rules });
    }
}

/// Rules at the head of a chain that mark traffic from outside the cluster for masquerading.
pub(crate) fn mark_outsiders(node: &NodeFacts, family: Family) -> Vec<Vec<Expression>> {
    let mut rule = family.only();
    for range in node
        .cluster_cidrs
        .iter()
        .filter(|range| range.network().is_ipv4() == family.is_v4())
    {
        rule.extend(within(family.source(), *range, Within::Outside));
    }
    rule.extend(set_masquerade_mark());
    vec![rule]
}

/// Rules that send the cluster's own traffic, of pods and of the node, to a chain.
pub(crate) fn insiders_to(node: &NodeFacts, family: Family, chain: &str) -> Vec<Vec<Expression>> {
    let mut rules = Vec::new();
    for range in node
        .cluster_cidrs
        .iter()
        .filter(|range| range.network().is_ipv4() == family.is_v4())
    {
        let mut rule = family.only();
        rule.extend(within(family.source(), *range, Within::Inside));
        rule.push(goto(chain));
        rules.push(rule);
    }
    let mut own = from_this_node();
    own.extend(set_masquerade_mark());
    own.push(goto(chain));
    rules.push(own);
    rules
}

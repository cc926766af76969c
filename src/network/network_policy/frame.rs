//! The part of the table that is the same whatever policies there are: where packets are asked about, and the sets that
//! say whether.

use crate::facts::{PolicyFacts, Rule};
use linux::netlink::nf_tables::{
    Chain, Expression, Family, Field, FieldKind, Hook, HookKind, HookPoint, Key, Ruleset, Set,
    SetShape, SetValues, Value, Verdict, any_bit,
};
use std::collections::BTreeMap;

const STATE_ESTABLISHED: u32 = 2;
const STATE_RELATED: u32 = 4;
/// Neighbour discovery of IPv6 is not tracked, and the node must hear it.
const STATE_UNTRACKED: u32 = 64;

/// The usual place of filters, and the next one.
const EGRESS_PRIORITY: i32 = 0;
const INGRESS_PRIORITY: i32 = 1;

/// pod . pod, for the isolated pods: nothing keeps a pod from itself.
pub(crate) const ITSELF: &str = "itself";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(crate) fn rules(self, policy: &PolicyFacts) -> Option<&[Rule]> {
        match self {
            Self::Ingress => policy.ingress.as_deref(),
            Self::Egress => policy.egress.as_deref(),
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The map from an isolated pod's address to its chain.
    pub(crate) fn isolated(self, family: Family) -> String {
        family.name(&format!("{}-isolated", self.word()))
    }

    /// Where a packet has the address of the isolated pod.
    fn own_address(self, family: Family) -> Field {
        match self {
            Self::Ingress => family.destination(),
            Self::Egress => family.source(),
        }
    }

    pub(crate) fn peer_address(self, family: Family) -> Field {
        match self {
            Self::Ingress => family.source(),
            Self::Egress => family.destination(),
        }
    }
}

pub(crate) fn put_frame(ruleset: &mut Ruleset) {
    for family in Family::BOTH {
        let address = family.address_kind();
        put_set(
            ruleset,
            family.name(ITSELF),
            &[address, address],
            SetValues::None,
        );
        for direction in [Direction::Ingress, Direction::Egress] {
            let name = direction.isolated(family);
            put_set(ruleset, name, &[address], SetValues::Verdicts);
        }
    }
    let known = STATE_ESTABLISHED | STATE_RELATED;
    let places = [
        ("egress", HookPoint::Forward, Direction::Egress, known),
        // What a pod sends to the node, or to a pod on the node's own network.
        (
            "egress-to-node",
            HookPoint::Input,
            Direction::Egress,
            known | STATE_UNTRACKED,
        ),
        ("ingress", HookPoint::Forward, Direction::Ingress, known),
    ];
    for (name, point, direction, states) in places {
        let hook = Hook {
            kind: HookKind::Filter,
            point,
            priority: match direction {
                Direction::Egress => EGRESS_PRIORITY,
                Direction::Ingress => INGRESS_PRIORITY,
            },
        };
        let chain = Chain {
            hook: Some(hook),
            rules: question(direction, states),
        };
        ruleset.chains.insert(name.to_owned(), chain);
    }
}

/// Asks the policies about the first packet of a connection.
fn question(direction: Direction, passing_states: u32) -> Vec<Vec<Expression>> {
    let mut known = any_bit(Field::ConnectionState, passing_states);
    known.push(accept());
    let mut rules = vec![known];
    for family in Family::BOTH {
        let mut itself = family.only();
        itself.push(Expression::Load(family.source(), 0));
        itself.push(Expression::Load(family.destination(), family.registers()));
        itself.push(among(family.name(ITSELF)));
        itself.push(accept());
        rules.push(itself);
        let mut isolated = family.only();
        isolated.push(Expression::Load(direction.own_address(family), 0));
        isolated.push(Expression::VerdictMap {
            set: direction.isolated(family),
            key: 0,
        });
        rules.push(isolated);
    }
    rules
}

/// Makes a set that is missing.
pub(crate) fn put_set(ruleset: &mut Ruleset, name: String, key: &[FieldKind], values: SetValues) {
    let shape = SetShape {
        key: key.to_vec(),
        values,
    };
    ruleset.sets.entry(name).or_insert(Set {
        shape,
        elements: BTreeMap::new(),
    });
}

pub(crate) fn put(ruleset: &mut Ruleset, set: &str, key: Key, value: Value) {
    let set = ruleset.sets.get_mut(set);
    let set = set.expect("a set is made before its elements");
    set.elements.insert(key, value);
}

/// The key is at register 0.
pub(crate) fn among(set: String) -> Expression {
    Expression::Among { set, key: 0 }
}

pub(crate) fn accept() -> Expression {
    Expression::Decide(Verdict::Accept)
}

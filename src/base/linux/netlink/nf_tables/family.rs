//! What differs between the IPv4 and the IPv6 twin of a rule, and the steps that rules share.

use super::{Expression, Field, FieldKind, Nat, Register, Verdict};
use std::net::IpAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    pub fn is_v4(self) -> bool {
        self == Self::V4
    }

    /// The name of the twin of a set or chain.
    pub fn name(self, stem: &str) -> String {
        format!("{stem}{}", if self.is_v4() { 4 } else { 6 })
    }

    pub fn address_kind(self) -> FieldKind {
        if self.is_v4() {
            FieldKind::Ipv4
        } else {
            FieldKind::Ipv6
        }
    }

    /// How many registers an address takes.
    pub fn registers(self) -> Register {
        if self.is_v4() { 1 } else { 4 }
    }

    pub fn source(self) -> Field {
        if self.is_v4() {
            Field::Ipv4Source
        } else {
            Field::Ipv6Source
        }
    }

    pub fn destination(self) -> Field {
        if self.is_v4() {
            Field::Ipv4Destination
        } else {
            Field::Ipv6Destination
        }
    }

    pub fn nat(self) -> Nat {
        if self.is_v4() { Nat::V4 } else { Nat::V6 }
    }

    /// The rule goes on for packets of this family only.
    pub fn only(self) -> Vec<Expression> {
        let number = if self.is_v4() { 2 } else { 10 };
        vec![
            Expression::Load(Field::NetworkProtocol, 0),
            Expression::Equal(0, vec![number]),
        ]
    }

    /// Loads destination, protocol and port into neighbouring registers.
    pub fn load_destination(self, first: Register) -> Vec<Expression> {
        let mut steps = vec![Expression::Load(self.destination(), first)];
        steps.extend(load_port(first + self.registers()));
        steps
    }

    /// The rule goes on for packets to one of the node's own addresses, those of `lo` excepted: with them a packet would
    /// leave the machine with a source that no answer can reach.
    pub fn to_this_node(self) -> Vec<Expression> {
        let mut steps = self.only();
        steps.push(Expression::Load(self.destination(), 0));
        if self.is_v4() {
            steps.push(bits(0, &[255, 0, 0, 0], &[0; 4]));
            steps.push(Expression::NotEqual(0, vec![127, 0, 0, 0]));
        } else {
            steps.push(Expression::NotEqual(
                0,
                octets(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)),
            ));
        }
        steps.push(Expression::Load(Field::DestinationType, 0));
        steps.push(Expression::Equal(0, LOCAL.to_ne_bytes().to_vec()));
        steps
    }
}

/// What a route lookup calls an address of the machine itself.
const LOCAL: u32 = 2;

/// The rule goes on for packets that the node itself sends.
pub fn from_this_node() -> Vec<Expression> {
    vec![
        Expression::Load(Field::SourceType, 0),
        Expression::Equal(0, LOCAL.to_ne_bytes().to_vec()),
    ]
}

pub fn load_port(first: Register) -> Vec<Expression> {
    vec![
        Expression::Load(Field::TransportProtocol, first),
        Expression::Load(Field::DestinationPort, first + 1),
    ]
}

/// The rule goes on if one of these bits of a connection's state or status is set.
pub fn any_bit(field: Field, mask: u32) -> Vec<Expression> {
    vec![
        Expression::Load(field, 0),
        bits(0, &mask.to_ne_bytes(), &[0; 4]),
        Expression::NotEqual(0, vec![0; 4]),
    ]
}

pub fn goto(chain: &str) -> Expression {
    Expression::Decide(Verdict::Goto(chain.to_owned()))
}

pub fn jump(chain: &str) -> Expression {
    Expression::Decide(Verdict::Jump(chain.to_owned()))
}

pub fn bits(register: Register, mask: &[u8], flip: &[u8]) -> Expression {
    Expression::Bits {
        register,
        mask: mask.to_vec(),
        flip: flip.to_vec(),
    }
}

pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

//! What differs between the IPv4 and the IPv6 twin of a rule, and the fields and names that both share.

use linux::netlink::nf_tables::{Expression, Field, FieldKind, Nat, Register, Verdict};
use std::net::IpAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The bit of a packet's mark that asks for masquerading.
const MASQUERADE_MARK: u32 = 0x4000;

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    pub(crate) fn is_v4(self) -> bool {
        self == Self::V4
    }

    /// The name of the twin of a set or chain.
    pub(crate) fn name(self, stem: &str) -> String {
        format!("{stem}{}", if self.is_v4() { 4 } else { 6 })
    }

    pub(crate) fn address_kind(self) -> FieldKind {
        if self.is_v4() {
            FieldKind::Ipv4
        } else {
            FieldKind::Ipv6
        }
    }

    /// How many registers an address takes.
    pub(crate) fn registers(self) -> Register {
        if self.is_v4() { 1 } else { 4 }
    }

    pub(crate) fn source(self) -> Field {
        if self.is_v4() {
            Field::Ipv4Source
        } else {
            Field::Ipv6Source
        }
    }

    pub(crate) fn destination(self) -> Field {
        if self.is_v4() {
            Field::Ipv4Destination
        } else {
            Field::Ipv6Destination
        }
    }

    pub(crate) fn nat(self) -> Nat {
        if self.is_v4() { Nat::V4 } else { Nat::V6 }
    }

    /// The rule goes on for packets of this family only.
    pub(crate) fn only(self) -> Vec<Expression> {
        let number = if self.is_v4() { 2 } else { 10 };
        vec![
            Expression::Load(Field::NetworkProtocol, 0),
            Expression::Equal(0, vec![number]),
        ]
    }

    /// Loads destination, protocol and port into neighbouring registers.
    pub(crate) fn load_destination(self, first: Register) -> Vec<Expression> {
        let mut steps = vec![Expression::Load(self.destination(), first)];
        steps.extend(load_port(first + self.registers()));
        steps
    }

    /// The rule goes on for packets to one of the node's own addresses, those of `lo` excepted: with them a packet would
    /// leave the machine with a source that no answer can reach.
    pub(crate) fn to_this_node(self) -> Vec<Expression> {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    Inside,
    Outside,
}

/// The rule goes on if the address, of the range's family, is inside (or outside) the range.
pub(crate) fn within(field: Field, range: ipnet::IpNet, wanted: Within) -> Vec<Expression> {
    let (mask, network) = (octets(range.netmask()), octets(range.network()));
    let zeros = vec![0; mask.len()];
    let compare = match wanted {
        Within::Inside => Expression::Equal(0, network),
        Within::Outside => Expression::NotEqual(0, network),
    };
    vec![Expression::Load(field, 0), bits(0, &mask, &zeros), compare]
}

/// What a route lookup calls an address of the machine itself.
const LOCAL: u32 = 2;

/// The rule goes on for packets that the node itself sends.
pub(crate) fn from_this_node() -> Vec<Expression> {
    vec![
        Expression::Load(Field::SourceType, 0),
        Expression::Equal(0, LOCAL.to_ne_bytes().to_vec()),
    ]
}

pub(crate) fn load_port(first: Register) -> Vec<Expression> {
    vec![
        Expression::Load(Field::TransportProtocol, first),
        Expression::Load(Field::DestinationPort, first + 1),
    ]
}

pub(crate) fn set_masquerade_mark() -> Vec<Expression> {
    vec![
        Expression::Load(Field::Mark, 0),
        bits(
            0,
            &(!MASQUERADE_MARK).to_ne_bytes(),
            &MASQUERADE_MARK.to_ne_bytes(),
        ),
        Expression::SetMark(0),
    ]
}

/// The rule goes on for packets with the mark, and takes it away from them.
pub(crate) fn take_masquerade_mark() -> Vec<Expression> {
    vec![
        Expression::Load(Field::Mark, 0),
        bits(0, &MASQUERADE_MARK.to_ne_bytes(), &[0; 4]),
        Expression::NotEqual(0, vec![0; 4]),
        Expression::Load(Field::Mark, 0),
        bits(0, &(!MASQUERADE_MARK).to_ne_bytes(), &[0; 4]),
        Expression::SetMark(0),
    ]
}

/// The rule goes on if one of these bits of a connection's state or status is set.
pub(crate) fn any_bit(field: Field, mask: u32) -> Vec<Expression> {
    vec![
        Expression::Load(field, 0),
        bits(0, &mask.to_ne_bytes(), &[0; 4]),
        Expression::NotEqual(0, vec![0; 4]),
    ]
}

pub(crate) fn goto(chain: &str) -> Expression {
    Expression::Decide(Verdict::Goto(chain.to_owned()))
}

pub(crate) fn jump(chain: &str) -> Expression {
    Expression::Decide(Verdict::Jump(chain.to_owned()))
}

pub(crate) fn bits(register: Register, mask: &[u8], flip: &[u8]) -> Expression {
    Expression::Bits {
        register,
        mask: mask.to_vec(),
        flip: flip.to_vec(),
    }
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

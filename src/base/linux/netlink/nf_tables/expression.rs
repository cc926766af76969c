//! What a rule is made of. Two rules with equal expressions do the same.

use super::super::attributes::Request;

/// One of the sixteen four-byte registers, 0 to 15. A key of several fields lies in neighbouring registers.
pub type Register = u32;

/// A step of a rule; the first that does not match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Puts something of the packet into a register.
    Load(Field, Register),
    Equal(Register, Vec<u8>),
    NotEqual(Register, Vec<u8>),
    /// Keeps the bits of `mask` of a register, then flips those of `flip`.
    Bits {
        register: Register,
        mask: Vec<u8>,
        flip: Vec<u8>,
    },
    /// Goes on if the key at the register is in the set.
    Among {
        set: String,
        key: Register,
    },
    /// Goes on with the value that the map has for the key.
    Map {
        set: String,
        key: Register,
        value: Register,
    },
    /// Takes the verdict that the map has for the key.
    VerdictMap {
        set: String,
        key: Register,
    },
    /// A random number from `offset` to `offset + modulus - 1`.
    Random {
        modulus: u32,
        offset: u32,
        register: Register,
    },
    Constant {
        register: Register,
        value: Vec<u8>,
    },
    /// Writes the packet's mark.
    SetMark(Register),
    /// Puts the key into a set that remembers, or refreshes it there.
    Remember {
        set: String,
        key: Register,
        timeout_ms: u64,
    },
    DestinationNat {
        family: Nat,
        address: Register,
        port: Register,
    },
    Masquerade {
        random_ports: bool,
    },
    Reject(Rejection),
    Decide(Verdict),
    /// Counts the packets that come so far; `nft list` shows it.
    Count,
}

/// What can be loaded, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Ipv4Source,
    Ipv4Destination,
    Ipv6Source,
    Ipv6Destination,
    DestinationPort,
    TransportProtocol,
    /// 2 for IPv4, 10 for IPv6.
    NetworkProtocol,
    Mark,
    ConnectionState,
    ConnectionStatus,
    /// What the destination is to this machine: 2 is one of its own addresses.
    DestinationType,
    /// The same of the source.
    SourceType,
}

/// The family of an address in a translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    V4,
    V6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    TcpReset,
    PortUnreachable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

const NAME: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
const VERDICT_REGISTER: u32 = 0;

impl Expression {
    pub(super) fn put(&self, list: &mut Request) {
        match self {
            Self::Load(field, register) => put_load(list, *field, *register),
            Self::Equal(register, value) => put_comparison(list, *register, 0, value),
            Self::NotEqual(register, value) => put_comparison(list, *register, 1, value),
            Self::Bits {
                register,
                mask,
                flip,
            } => put_bits(list, *register, mask, flip),
            Self::Among { set, key } => put_lookup(list, set, *key, None),
            Self::Map { set, key, value } => put_lookup(list, set, *key, Some(wire(*value))),
            Self::VerdictMap { set, key } => put_lookup(list, set, *key, Some(VERDICT_REGISTER)),
            Self::Random {
                modulus,
                offset,
                register,
            } => put(list, "numgen", |data| {
                const RANDOM: u32 = 1;
                data.be32(1, wire(*register)).be32(2, *modulus);
                data.be32(3, RANDOM).be32(4, *offset);
            }),
            Self::Constant { register, value } => put(list, "immediate", |data| {
                data.be32(1, wire(*register));
                put_value(data, 2, value);
            }),
            Self::SetMark(register) => put(list, "meta", |data| {
                const MARK: u32 = 3;
                data.be32(2, MARK).be32(3, wire(*register));
            }),
            Self::Remember {
                set,
                key,
                timeout_ms,
            } => put(list, "dynset", |data| {
                const UPDATE: u32 = 1;
                data.text(1, set).be32(3, UPDATE).be32(4, wire(*key));
                data.attribute(6, &timeout_ms.to_be_bytes());
            }),
            Self::DestinationNat {
                family,
                address,
                port,
            } => put_nat(list, *family, *address, *port),
            Self::Masquerade { random_ports } => put(list, "masq", |data| {
                const FULLY_RANDOM: u32 = 0x10;
                if *random_ports {
                    data.be32(1, FULLY_RANDOM);
                }
            }),
            Self::Reject(rejection) => put(list, "reject", |data| {
                let (kind, code) = match rejection {
                    Rejection::TcpReset => (1, 0),
                    Rejection::PortUnreachable => (2, 1),
                };
                data.be32(1, kind).attribute(2, &[code]);
            }),
            Self::Count => put(list, "counter", |data| {
                data.attribute(1, &0_u64.to_be_bytes());
                data.attribute(2, &0_u64.to_be_bytes());
            }),
            Self::Decide(verdict) => put(list, "immediate", |data| {
                data.be32(1, VERDICT_REGISTER)
                    .nested(2, |value| put_verdict(value, verdict));
            }),
        }
    }
}

fn put_bits(list: &mut Request, register: Register, mask: &[u8], flip: &[u8]) {
    let length = u32::try_from(mask.len()).expect("a register mask is at most 16 bytes");
    put(list, "bitwise", |data| {
        data.be32(1, wire(register))
            .be32(2, wire(register))
            .be32(3, length);
        put_value(data, 4, mask);
        put_value(data, 5, flip);
    });
}

/// `destination` is a register's number on the wire.
fn put_lookup(list: &mut Request, set: &str, key: Register, destination: Option<u32>) {
    put(list, "lookup", |data| {
        data.text(1, set).be32(2, wire(key));
        if let Some(destination) = destination {
            data.be32(3, destination);
        }
    });
}

fn put_nat(list: &mut Request, family: Nat, address: Register, port: Register) {
    const TO_DESTINATION: u32 = 1;
    const WITH_PORT: u32 = 2;
    let number = if family == Nat::V4 { 2 } else { 10 };
    put(list, "nat", |data| {
        data.be32(1, TO_DESTINATION).be32(2, number);
        data.be32(3, wire(address))
            .be32(5, wire(port))
            .be32(7, WITH_PORT);
    });
}

/// The number of a register on the wire.
fn wire(register: Register) -> u32 {
    const FIRST: u32 = 8;
    FIRST + register
}

fn put(list: &mut Request, name: &str, fill: impl FnOnce(&mut Request)) {
    list.text(NAME, name).nested(DATA, fill);
}

fn put_value(data: &mut Request, kind: u16, value: &[u8]) {
    data.nested(kind, |inner| {
        inner.attribute(VALUE, value);
    });
}

fn put_comparison(list: &mut Request, register: Register, operator: u32, value: &[u8]) {
    put(list, "cmp", |data| {
        data.be32(1, wire(register)).be32(2, operator);
        put_value(data, 3, value);
    });
}

fn put_load(list: &mut Request, field: Field, register: Register) {
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    const TYPE_OF_DESTINATION: u32 = 2;
    const TYPE_OF_SOURCE: u32 = 1;
    let mut payload = |base: u32, offset: u32, length: u32| {
        put(list, "payload", |data| {
            data.be32(1, wire(register))
                .be32(2, base)
                .be32(3, offset)
                .be32(4, length);
        });
    };
    match field {
        Field::Ipv4Source => payload(NETWORK, 12, 4),
        Field::Ipv4Destination => payload(NETWORK, 16, 4),
        Field::Ipv6Source => payload(NETWORK, 8, 16),
        Field::Ipv6Destination => payload(NETWORK, 24, 16),
        Field::DestinationPort => payload(TRANSPORT, 2, 2),
        Field::TransportProtocol => put_keyed(list, "meta", 16, register),
        Field::NetworkProtocol => put_keyed(list, "meta", 15, register),
        Field::Mark => put_keyed(list, "meta", 3, register),
        Field::ConnectionState => put_keyed(list, "ct", 0, register),
        Field::ConnectionStatus => put_keyed(list, "ct", 2, register),
        Field::DestinationType => put_address_type(list, TYPE_OF_DESTINATION, register),
        Field::SourceType => put_address_type(list, TYPE_OF_SOURCE, register),
    }
}

fn put_keyed(list: &mut Request, name: &str, key: u32, register: Register) {
    put(list, name, |data| {
        data.be32(1, wire(register)).be32(2, key);
    });
}

fn put_address_type(list: &mut Request, whose: u32, register: Register) {
    const ADDRESS_TYPE: u32 = 3;
    put(list, "fib", |data| {
        data.be32(1, wire(register))
            .be32(2, ADDRESS_TYPE)
            .be32(3, whose);
    });
}

pub(super) fn put_verdict(data: &mut Request, verdict: &Verdict) {
    const VERDICT: u16 = 2;
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    data.nested(VERDICT, |inner| {
        match verdict {
            Verdict::Drop => inner.be32(CODE, 0),
            Verdict::Accept => inner.be32(CODE, 1),
            Verdict::Jump(chain) => inner
                .be32(CODE, (-3_i32).cast_unsigned())
                .text(CHAIN, chain),
            Verdict::Goto(chain) => inner
                .be32(CODE, (-4_i32).cast_unsigned())
                .text(CHAIN, chain),
            Verdict::Return => inner.be32(CODE, (-5_i32).cast_unsigned()),
        };
    });
}

//! `nf_tables`: tables, chains, rules and sets as plain values, and atomic batches that change them.
//!
//! Everything is by hand on the wire format of `linux/netfilter/nf_tables.h`; integers are big-endian except where a
//! register holds a value of the machine's order (mark, connection state, random slot, address type).

mod difference;
mod drift;
mod expression;
mod family;
mod kept_table;
mod ruleset;

pub use difference::{Elements, element_difference};
pub use drift::Drift;
pub use expression::{Expression, Field, Nat, Register, Rejection, Verdict};
pub use family::{Family, any_bit, bits, from_this_node, goto, jump, load_port, octets};
pub use kept_table::{Applied, Change, KeptTable};
pub use ruleset::{Bytes, Chain, Data, Key, Ruleset, Set, Value};

use super::attributes::{ATTRIBUTE_BYTES_MAX, FLAG_APPEND, FLAG_CREATE, Message, Request};
use super::{NetlinkError, Protocol, Socket};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const FAMILY_INET: u8 = 1;
/// `NFNLGRP_NFTABLES`: notifications of every change of every table.
pub const GROUP_CHANGES: u32 = 7;

const NEW_TABLE: u16 = message(0);
const GET_TABLE: u16 = message(1);
const DELETE_TABLE: u16 = message(2);
const NEW_CHAIN: u16 = message(3);
const DELETE_CHAIN: u16 = message(5);
const NEW_RULE: u16 = message(6);
const DELETE_RULE: u16 = message(8);
const NEW_SET: u16 = message(9);
const DELETE_SET: u16 = message(11);
const NEW_ELEMENT: u16 = message(12);
const DELETE_ELEMENT: u16 = message(14);
/// The notification that ends every batch; not about one table.
const NEW_GENERATION: u16 = message(15);

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_HANDLE: u16 = 4;
const FLAG_OWNER: u32 = 2;
const FLAG_PERSIST: u32 = 4;

const LIST_ELEMENT: u16 = 1;
/// Bytes of elements in one message; the list is one attribute, and its length has 16 bits.
const ELEMENT_BYTES_MAX: usize = ATTRIBUTE_BYTES_MAX - 8 * 1024;
/// Bytes of one batch and of the answers to it.
const SEND_BYTES: usize = 64 << 20;
const RECEIVE_BYTES: usize = 4 << 20;

const fn message(number: u16) -> u16 {
    (SUBSYSTEM << 8) | number
}

/// Where a chain is hooked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    pub kind: HookKind,
    pub point: HookPoint,
    pub priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    Nat,
    Filter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// The shape of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetShape {
    /// Fields of the key in order; each is padded to four bytes.
    pub key: Vec<FieldKind>,
    pub values: SetValues,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValues {
    /// A set: keys alone.
    None,
    /// A set of ranges, for keys of two fields or more: each field has a first and a last value. Elements must not
    /// overlap.
    Ranges,
    Verdicts,
    Data(Vec<FieldKind>),
    /// A set that rules fill; an entry dies after this time without a refresh.
    Remembered {
        timeout_ms: u64,
        entries_max: u32,
    },
}

/// What a field of a key is, for its size and for how `nft list` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    Ipv4,
    Ipv6,
    /// A transport protocol's number: one byte.
    Protocol,
    /// A port: two bytes.
    Port,
    /// A number in the machine's order. Its type says `mark`, because the type `integer` has no size and `nft` aborts.
    Number,
}

impl FieldKind {
    const fn type_number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Number => 19,
        }
    }

    const fn padded_bytes(self) -> u32 {
        if matches!(self, Self::Ipv6) { 16 } else { 4 }
    }

    const fn bytes(self) -> u32 {
        match self {
            Self::Ipv6 => 16,
            Self::Ipv4 | Self::Number => 4,
            Self::Port => 2,
            Self::Protocol => 1,
        }
    }
}

fn type_of(fields: &[FieldKind]) -> u32 {
    fields
        .iter()
        .fold(0, |sum, field| (sum << 6) | field.type_number())
}

fn bytes_of(fields: &[FieldKind]) -> u32 {
    fields.iter().map(|field| field.padded_bytes()).sum()
}

/// Who may change a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The socket that made or adopted it; survives the socket (kernel 6.9 and newer).
    Exclusive,
    /// Everybody, also `nft flush ruleset`.
    Shared,
}

/// A table that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExistingTable {
    pub ownership: Ownership,
    /// A table that was deleted and made again has another handle.
    pub handle: u64,
}

/// Changes to one table that happen together or not at all.
#[derive(Debug)]
pub struct Batch {
    table: String,
    request: Request,
}

impl Batch {
    pub fn new(table: &str) -> Self {
        let mut request = Request::default();
        request.begin(BATCH_BEGIN, 0, &batch_header());
        Self {
            table: table.to_owned(),
            request,
        }
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.request.messages() == 1
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.request.len()
    }

    /// Makes the table, or adopts one whose owner is gone.
    pub fn add_table(&mut self, ownership: Ownership) {
        let table = self.table.clone();
        let flags = if ownership == Ownership::Exclusive {
            FLAG_OWNER | FLAG_PERSIST
        } else {
            0
        };
        self.begin(NEW_TABLE, FLAG_CREATE)
            .text(TABLE_NAME, &table)
            .be32(TABLE_FLAGS, flags);
    }

    pub fn delete_table(&mut self) {
        let table = self.table.clone();
        self.begin(DELETE_TABLE, 0).text(TABLE_NAME, &table);
    }

    pub fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        const CHAIN_TABLE: u16 = 1;
        const CHAIN_NAME: u16 = 3;
        const CHAIN_HOOK: u16 = 4;
        const CHAIN_POLICY: u16 = 5;
        const CHAIN_TYPE: u16 = 7;
        const ACCEPT: u32 = 1;
        let table = self.table.clone();
        let request = self
            .begin(NEW_CHAIN, FLAG_CREATE)
            .text(CHAIN_TABLE, &table)
            .text(CHAIN_NAME, name);
        if let Some(hook) = hook {
            request.nested(CHAIN_HOOK, |place| {
                place
                    .be32(1, hook.point as u32)
                    .be32(2, hook.priority.cast_unsigned());
            });
            request.be32(CHAIN_POLICY, ACCEPT);
            request.text(
                CHAIN_TYPE,
                if hook.kind == HookKind::Nat {
                    "nat"
                } else {
                    "filter"
                },
            );
        }
    }

    pub fn delete_chain(&mut self, name: &str) {
        let table = self.table.clone();
        self.begin(DELETE_CHAIN, 0).text(1, &table).text(3, name);
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, rule: &[Expression]) {
        const RULE_EXPRESSIONS: u16 = 4;
        let table = self.table.clone();
        let request = self
            .begin(NEW_RULE, FLAG_CREATE | FLAG_APPEND)
            .text(1, &table)
            .text(2, chain);
        request.nested(RULE_EXPRESSIONS, |list| {
            for expression in rule {
                list.nested(LIST_ELEMENT, |inner| expression.put(inner));
            }
        });
    }

    /// Takes all rules out of a chain.
    pub fn flush_chain(&mut self, chain: &str) {
        let table = self.table.clone();
        self.begin(DELETE_RULE, 0).text(1, &table).text(2, chain);
    }

    /// Makes a set. `id` is a number of the caller's that is unique in the batch.
    pub fn add_set(&mut self, name: &str, id: u32, shape: &SetShape) {
        const MAP: u32 = 8;
        const TIMEOUT: u32 = 0x10;
        const EVALUATED: u32 = 0x20;
        const INTERVAL: u32 = 4;
        const CONCATENATION: u32 = 0x80;
        const VERDICT: u32 = 0xffff_ff00;
        const VERDICT_BYTES: u32 = 16;
        let table = self.table.clone();
        let request = self
            .begin(NEW_SET, FLAG_CREATE)
            .text(1, &table)
            .text(2, name);
        let flags = match &shape.values {
            SetValues::None => 0,
            SetValues::Ranges => INTERVAL | CONCATENATION,
            SetValues::Verdicts | SetValues::Data(_) => MAP,
            SetValues::Remembered { .. } => TIMEOUT | EVALUATED,
        };
        request
            .be32(3, flags)
            .be32(4, type_of(&shape.key))
            .be32(5, bytes_of(&shape.key));
        match &shape.values {
            SetValues::None => {}
            SetValues::Ranges => put_field_lengths(request, &shape.key),
            SetValues::Verdicts => {
                request.be32(6, VERDICT).be32(7, VERDICT_BYTES);
            }
            SetValues::Data(fields) => {
                request.be32(6, type_of(fields)).be32(7, bytes_of(fields));
            }
            SetValues::Remembered {
                timeout_ms,
                entries_max,
            } => {
                request.attribute(11, &timeout_ms.to_be_bytes());
                request.nested(9, |description| {
                    description.be32(1, *entries_max);
                });
            }
        }
        request.be32(10, id);
    }

    pub fn delete_set(&mut self, name: &str) {
        let table = self.table.clone();
        self.begin(DELETE_SET, 0).text(1, &table).text(2, name);
    }

    pub fn add_elements<'a>(
        &mut self,
        set: &str,
        elements: impl Iterator<Item = (&'a Key, &'a Value)>,
    ) {
        self.change_elements(NEW_ELEMENT, FLAG_CREATE, set, elements);
    }

    /// Deletes elements; one that is not there refuses the whole batch.
    pub fn delete_elements<'a>(
        &mut self,
        set: &str,
        elements: impl Iterator<Item = (&'a Key, &'a Value)>,
    ) {
        self.change_elements(DELETE_ELEMENT, 0, set, elements);
    }

    fn change_elements<'a>(
        &mut self,
        kind: u16,
        flags: u16,
        set: &str,
        elements: impl Iterator<Item = (&'a Key, &'a Value)>,
    ) {
        const ELEMENTS: u16 = 3;
        let table = self.table.clone();
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            let request = self.begin(kind, flags).text(1, &table).text(2, set);
            request.nested(ELEMENTS, |list| {
                let start = list.len();
                while list.len() - start < ELEMENT_BYTES_MAX {
                    let Some((key, value)) = elements.next() else {
                        break;
                    };
                    list.nested(LIST_ELEMENT, |element| {
                        put_element(element, kind, key, value);
                    });
                }
            });
        }
    }

    fn begin(&mut self, kind: u16, flags: u16) -> &mut Request {
        self.request.begin(kind, flags, &[FAMILY_INET, 0, 0, 0])
    }
}

/// What an element leads to is not said when it is deleted.
fn put_element(element: &mut Request, kind: u16, key: &Key, value: &Value) {
    const KEY_END: u16 = 10;
    element.nested(1, |data| {
        data.attribute(1, key.as_slice());
    });
    match value {
        Value::Through(last) => {
            element.nested(KEY_END, |data| {
                data.attribute(1, last.as_slice());
            });
        }
        Value::Data(bytes) if kind == NEW_ELEMENT => {
            element.nested(2, |data| {
                data.attribute(1, bytes.as_slice());
            });
        }
        Value::Goto(chain) if kind == NEW_ELEMENT => {
            element.nested(2, |data| {
                expression::put_verdict(data, &Verdict::Goto(chain.to_string()));
            });
        }
        Value::None | Value::Data(_) | Value::Goto(_) => {}
    }
}

/// The fields' own lengths, which padding hides.
fn put_field_lengths(request: &mut Request, key: &[FieldKind]) {
    const DESCRIPTION: u16 = 9;
    const CONCATENATION: u16 = 2;
    request.nested(DESCRIPTION, |description| {
        description.nested(CONCATENATION, |list| {
            for field in key {
                list.nested(LIST_ELEMENT, |element| {
                    element.be32(1, field.bytes());
                });
            }
        });
    });
}

fn batch_header() -> [u8; 4] {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    [0, 0, high, low]
}

/// The calls on `nf_tables` in one network namespace. An exclusive table belongs to the socket that made it.
#[derive(Debug)]
pub struct NfTablesSocket(Socket);

impl NfTablesSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = Socket::open(Protocol::NetFilter)?;
        socket.set_buffers(SEND_BYTES, RECEIVE_BYTES)?;
        Ok(Self(socket))
    }

    pub fn port(&self) -> u32 {
        self.0.port()
    }

    /// Does all of the batch or nothing. After `Overrun` it is unknown which, and the socket must be replaced.
    pub fn commit(&mut self, batch: Batch) -> Result<(), NetlinkError> {
        let mut request = batch.request;
        if request.messages() == 1 {
            return Ok(());
        }
        request.ask_acknowledgement();
        let last = request.messages() - 1;
        request.begin(BATCH_END, 0, &batch_header());
        let table = batch.table;
        self.0.run_batch(request, last, |position| {
            format!("change {position} of {last} to the table {table}")
        })
    }

    /// The table of this name, if there is one.
    pub fn table(&mut self, name: &str) -> Result<Option<ExistingTable>, NetlinkError> {
        let mut request = Request::get(GET_TABLE, &[FAMILY_INET, 0, 0, 0]);
        request.text(TABLE_NAME, name);
        let reply = match self.0.get("to find a table", request) {
            Err(error) if error.is_refusal(libc::ENOENT) => return Ok(None),
            other => other?,
        };
        let attributes = reply.attributes(4);
        let flags = attributes.find_be32(TABLE_FLAGS).unwrap_or(0);
        let handle = attributes
            .find(TABLE_HANDLE)
            .and_then(|bytes| bytes.try_into().ok());
        Ok(Some(ExistingTable {
            ownership: if flags & FLAG_OWNER != 0 {
                Ownership::Exclusive
            } else {
                Ownership::Shared
            },
            handle: handle.map_or(0, u64::from_be_bytes),
        }))
    }
}

/// The table that a notification of `GROUP_CHANGES` is about; nothing for the notification that ends a batch.
pub fn changed_table<'a>(message: &Message<'a>) -> Option<&'a str> {
    if message.kind == NEW_GENERATION || message.kind >> 8 != SUBSYSTEM {
        return None;
    }
    message.attributes(4).find_text(TABLE_NAME)
}

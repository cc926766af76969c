//! The whole content of a table as one plain value.

use super::{Expression, Hook, SetShape};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// All chains, rules, sets and elements of a table. Two equal rulesets do the same with every packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub chains: BTreeMap<String, Chain>,
    pub sets: BTreeMap<String, Set>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    pub hook: Option<Hook>,
    pub rules: Vec<Vec<Expression>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub shape: SetShape,
    pub elements: BTreeMap<Key, Value>,
}

/// The longest key: number, IPv6 address, protocol, port.
const KEY_BYTES_MAX: usize = 36;
/// The longest value: IPv6 address and port.
const DATA_BYTES_MAX: usize = 20;

/// A key of a set, or the data of a map, without a heap allocation: there are tens of thousands.
#[derive(Clone, Copy)]
pub struct Bytes<const MAX: usize> {
    length: u8,
    bytes: [u8; MAX],
}

pub type Key = Bytes<KEY_BYTES_MAX>;
pub type Data = Bytes<DATA_BYTES_MAX>;

/// What an element leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    None,
    /// In a set of ranges: the last value of each field; the key has the first ones.
    Through(Key),
    Data(Data),
    Goto(Arc<str>),
}

impl Ruleset {
    /// How many elements all sets have together.
    pub fn elements(&self) -> usize {
        self.sets.values().map(|set| set.elements.len()).sum()
    }
}

impl<const MAX: usize> Default for Bytes<MAX> {
    fn default() -> Self {
        Self {
            length: 0,
            bytes: [0; MAX],
        }
    }
}

impl<const MAX: usize> Bytes<MAX> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a field, padded to the width of a register.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Self {
        let start = usize::from(self.length);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        let end = (start + bytes.len() + 3) & !3;
        self.length = u8::try_from(end).expect("keys are shorter than their limit");
        self
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl<const MAX: usize> PartialEq for Bytes<MAX> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<const MAX: usize> Eq for Bytes<MAX> {}

impl<const MAX: usize> PartialOrd for Bytes<MAX> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const MAX: usize> Ord for Bytes<MAX> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl<const MAX: usize> Borrow<[u8]> for Bytes<MAX> {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl<const MAX: usize> fmt::Debug for Bytes<MAX> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02x?}", self.as_slice())
    }
}

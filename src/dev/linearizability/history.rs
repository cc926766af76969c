//! What clients asked, when, and what they were told.

use std::collections::BTreeMap;

/// Keys by number; [`name`] is what the server knows them by.
pub(crate) type Key = u8;

/// Keys whose writes are always durable.
pub(crate) const KEYS: Key = 6;
/// Keys after them, whose writes may be relaxed.
pub(crate) const RELAXED_KEYS: Key = 3;
/// Every key begins with it.
pub(crate) const PREFIX: &str = "test/";
/// Relaxed keys begin with it.
pub(crate) const RELAXED_PREFIX: &str = "test/lease/";

pub(crate) fn name(key: Key) -> String {
    if is_relaxed(key) {
        format!("{RELAXED_PREFIX}{}", key - KEYS)
    } else {
        format!("{PREFIX}key/{key}")
    }
}

pub(crate) fn is_relaxed(key: Key) -> bool {
    key >= KEYS
}

/// `None` for a key that nobody here wrote.
pub(crate) fn number(name: &[u8]) -> Option<Key> {
    (0..KEYS + RELAXED_KEYS).find(|key| self::name(*key).as_bytes() == name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) value: u64,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

pub(crate) type Entries = BTreeMap<Key, Entry>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    Put { key: Key, value: u64, lease: i64 },
    Delete { key: Key },
}

impl Write {
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => *key,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    /// One key, or all.
    Read {
        key: Option<Key>,
    },
    /// All keys at an older revision.
    ReadOld {
        revision: i64,
    },
    /// Writes, if the key was last changed at the revision; else that key is read.
    Write {
        condition: Option<(Key, i64)>,
        writes: Vec<Write>,
    },
    Grant {
        lease: i64,
    },
    Revoke {
        lease: i64,
    },
    /// The server is killed and started again.
    Crash,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Read {
        revision: i64,
        entries: Entries,
    },
    /// What was under each written key before.
    Written {
        revision: i64,
        previous: Vec<Option<Entry>>,
    },
    /// The condition did not hold.
    NotWritten {
        revision: i64,
        found: Option<Entry>,
    },
    LeaseMissing,
    /// Of a grant or a revoke.
    Done,
    /// The revision that the next server began with.
    Restarted {
        revision: i64,
    },
    Compacted,
    /// Nobody knows whether it was done.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Nanoseconds since the begin of the run.
    pub(crate) called: u64,
    pub(crate) returned: u64,
    /// Which of the servers that followed each other was asked.
    pub(crate) epoch: u32,
    pub(crate) call: Call,
    pub(crate) outcome: Outcome,
}

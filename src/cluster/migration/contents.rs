//! What the store of another Kubernetes holds, wherever it is kept.

use kv::Revision;

/// The newest version of a key that is there.
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) create_revision: Revision,
    pub(crate) mod_revision: Revision,
    pub(crate) version: i64,
    /// Whether it goes by itself.
    pub(crate) is_leased: bool,
}

pub(crate) struct Contents {
    /// In the order of their revisions, of which each has its own.
    pub(crate) rows: Vec<Row>,
    /// No revision above it was ever used.
    pub(crate) revision: Revision,
}

//! The store on disk: one writer, many readers, etcd's promises over `SQLite`.
//!
//! - [`SqliteKv`]: opens a store and serves [`kv::Kv`] from it. Newest values live in memory once, shared with all readers; the disk holds every
//!   version since the compacted revision in one append-only table.
//! - [`Sealer`], [`SealingKeys`]: encryption of values at the disk edge, for the key prefixes in [`Options::sealers`].

mod checkpoint;
mod committer;
mod compaction;
mod error;
mod load;
mod options;
mod queue;
mod readers;
mod relaxed;
mod row;
mod schema;
mod sealer;
mod store;
mod writer;

pub use error::OpenError;
pub use options::{Options, RelaxedWrites};
pub use sealer::{SealError, SealedPrefix, Sealer, SealingKeys, SealingKeysError};
pub use store::SqliteKv;

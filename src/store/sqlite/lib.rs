//! The store on disk: one writer, many readers, etcd's promises over `SQLite`.
//!
//! - [`SqliteKv`]: opens a store and serves [`kv::Kv`] from it. Newest values live in memory once, shared with all readers; the disk holds every
//!   version since the compacted revision in one append-only table.
//! - [`copy_store`], [`check_store`], [`mark_restored`]: work on a store's file beside whoever has it open.
//! - [`Sealer`], [`SealingKeys`]: encryption of values at the disk edge, for the key prefixes in [`Options::sealers`].

mod alarms;
mod ballast;
mod checkpoint;
mod committer;
mod compaction;
mod copy;
mod counters;
mod error;
mod import;
mod load;
mod log_check;
mod options;
mod pace;
mod queue;
mod readers;
mod relaxed;
mod row;
mod schema;
mod seal;
mod sealer;
mod sealing_keys;
mod space;
mod store;
mod structure_check;
mod writer;

pub use ballast::BALLAST_BYTES;
pub use copy::{Checked, RESTORE_STEP, check_copy, check_store, copy_store, mark_restored};
pub use error::OpenError;
pub use import::{Imported, import_store};
pub use options::{Options, RelaxedWrites};
pub use sealer::{SealError, SealedPrefix, Sealer};
pub use sealing_keys::{SealingKeys, SealingKeysError};
pub use store::{Seals, SqliteKv, is_open};

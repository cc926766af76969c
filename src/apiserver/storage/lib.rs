//! Objects over a [`kv::Kv`]: keys, compare-and-set, selectors, paging and watches.
//!
//! There is no cache of objects here: lists and watches hand out the store's own bytes, with an index that is extracted once per
//! version and kept with it.

mod collection;
mod continue_token;
mod error;
mod field_index;
mod fields;
mod list;
mod memo;
mod store;
mod ticker;
mod watch;

pub use collection::Collection;
pub use continue_token::ContinueToken;
pub use error::StorageError;
pub use field_index::FieldIndex;
pub use list::{List, ListOptions, Matching, RevisionMatch};
pub use store::{Alongside, ObjectStore};
pub use watch::{Watch, WatchEvent, WatchOptions, WatchStart};

#[cfg(test)]
mod tests;

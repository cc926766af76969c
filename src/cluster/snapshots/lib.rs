//! One file with everything that a cluster is: the store as it was at one moment, and the keys that make it the same cluster again.
//!
//! A snapshot is written whole or not at all, and restored whole or not at all: whatever is cut or changed is refused
//! before anything is written. Servers go on while one is taken.

mod container;
mod error;
mod files;
mod folder;
mod passphrase;
mod restore;
mod s3;
mod save;
#[cfg(test)]
mod tests;

pub use container::{Compression, Header, verify};
pub use error::{Error, Result};
pub use folder::{Listed, SUFFIX, delete, list, prune};
pub use passphrase::Passphrase;
pub use restore::{Existing, Restored, restore};
pub use s3::Bucket;
pub use save::{SaveOptions, Saved, default_folder, save};

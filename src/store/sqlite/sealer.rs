//! Encryption of values at the disk edge: memory holds plaintext once, the disk and its backups never do.

use std::sync::Arc;

/// Encrypts and decrypts the values of some keys.
pub trait Sealer: Send + Sync + std::fmt::Debug {
    /// Names the key that [`Sealer::seal`] uses now; above 0.
    fn key_id(&self) -> i64;

    /// Encrypts `value` so that it can only be opened under the same `key`; tells with which sealing key.
    fn seal(&self, key: &[u8], value: &[u8]) -> (i64, Vec<u8>);

    /// Whether values sealed with this key can be opened.
    fn knows(&self, key_id: i64) -> bool;

    fn open(&self, key_id: i64, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError>;
}

/// The value was changed, belongs to another key, or was sealed with another sealing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be decrypted")]
pub struct SealError;

/// Every value under `prefix` is sealed.
#[derive(Clone, Debug)]
pub struct SealedPrefix {
    pub prefix: Vec<u8>,
    pub sealer: Arc<dyn Sealer>,
}

/// All sealers of a store.
#[derive(Clone, Debug)]
pub(crate) struct Sealers(Vec<SealedPrefix>);

impl Sealers {
    pub(crate) fn new(mut prefixes: Vec<SealedPrefix>) -> Self {
        // The longest prefix comes first, and so is found first.
        prefixes.sort_by_key(|sealed| std::cmp::Reverse(sealed.prefix.len()));
        Self(prefixes)
    }

    pub(crate) fn for_key(&self, key: &[u8]) -> Option<&dyn Sealer> {
        self.0
            .iter()
            .find(|sealed| key.starts_with(&sealed.prefix))
            .map(|sealed| &*sealed.sealer)
    }

    /// Whoever can open what was sealed with this key, also if its prefix is not sealed any more.
    pub(crate) fn for_key_id(&self, key_id: i64) -> Option<&dyn Sealer> {
        self.0
            .iter()
            .map(|sealed| &*sealed.sealer)
            .find(|sealer| sealer.knows(key_id))
    }
}

//! The checksum by which etcd's members compare their data: CRC-32C over the versions of all keys in the form in which etcd keeps them.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::item::{Body, VersionId};
use crate::replica::Replica;
use crate::state::{Located, State};
use crate::tree::Which;
use crate::types::{Entry, Error, HashKv, KeyRange, Result, Revision};

/// The checksum begins with the name of the table that etcd keeps versions in.
const TABLE: &[u8] = b"key";
/// Versions that are read from disk at once.
const BATCH_VERSIONS_MAX: usize = 512;

/// One version under the checksum; `None` for a tombstone.
struct Hashed {
    id: VersionId,
    key: Arc<[u8]>,
    located: Option<Located>,
}

impl Replica {
    pub async fn hash_kv(&self, revision: Option<Revision>) -> Result<HashKv> {
        let state = self.snapshot();
        let through = revision
            .filter(|revision| *revision > 0)
            .unwrap_or(state.revision);
        state.check_revision(Some(through))?;
        let mut versions = hashed(&state, through);
        // A compaction during the walk may have taken versions away.
        self.snapshot().check_revision(Some(through))?;
        let mut hash = crc32c::crc32c(TABLE);
        while !versions.is_empty() {
            let rest = versions.split_off(versions.len().min(BATCH_VERSIONS_MAX));
            hash = self.hash_batch(hash, versions).await?;
            versions = rest;
        }
        Ok(HashKv {
            hash,
            hash_revision: through,
            compact_revision: state.compact_revision,
            revision: state.revision,
        })
    }

    async fn hash_batch(&self, hash: u32, batch: Vec<Hashed>) -> Result<u32> {
        let located = batch.iter().filter_map(|one| one.located.clone()).collect();
        let mut entries = self.load(located).await?.into_iter();
        let mut hash = hash;
        for one in batch {
            let entry = match one.located {
                Some(_) => Some(entries.next().ok_or(Error::Corrupt)?),
                None => None,
            };
            hash = crc32c::crc32c_append(hash, &row_key(one.id, entry.is_none()));
            hash = crc32c::crc32c_append(hash, &row_value(&one.key, entry.as_deref()));
        }
        Ok(hash)
    }
}

/// The versions that a compacted store is bound to have: all since the compacted revision, and of the older ones those that are current at
/// `through`. If nothing is current then, etcd counts what was current at the compacted revision.
fn hashed(state: &State, through: Revision) -> Vec<Hashed> {
    let compacted = state.compact_revision;
    let (mut newer, mut kept, mut old) = (Vec::new(), Vec::new(), Vec::new());
    let mut anything_lives = false;
    state
        .items
        .visit(&KeyRange::prefix(""), Which::All, &mut |item| {
            let hashed = |version: crate::item::Version| Hashed {
                id: version.id,
                key: Arc::clone(&item.key),
                located: Located::of(version, &item.key),
            };
            let since = item.since(compacted + 1).into_iter();
            newer.extend(
                since
                    .map(|(version, _)| version)
                    .filter(|version| version.id.revision() <= through)
                    .map(hashed),
            );
            let alive = |version: &crate::item::Version| !matches!(version.body, Body::Tombstone);
            let is_old = |version: &crate::item::Version| version.id.revision() <= compacted;
            if let Some(version) = item.at(through).filter(alive) {
                anything_lives = true;
                kept.extend(Some(version).filter(is_old).map(hashed));
            }
            old.extend(item.at(compacted).filter(alive).map(hashed));
            ControlFlow::Continue(())
        });
    newer.extend(if anything_lives { kept } else { old });
    newer.sort_unstable_by_key(|one| one.id);
    newer
}

/// Revision and number within it, each as eight bytes, and a mark on a tombstone.
fn row_key(id: VersionId, tombstone: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18);
    bytes.extend(id.revision().to_be_bytes());
    bytes.push(b'_');
    bytes.extend(id.sub().to_be_bytes());
    bytes.extend(tombstone.then_some(b't'));
    bytes
}

/// The protobuf message `mvccpb.KeyValue`, of which a tombstone has the key only.
fn row_value(key: &[u8], entry: Option<&Entry>) -> Vec<u8> {
    let mut message =
        Vec::with_capacity(key.len() + entry.map_or(0, |entry| entry.value.len()) + 48);
    bytes_field(&mut message, 1, key);
    if let Some(entry) = entry {
        number_field(&mut message, 2, entry.create_revision);
        number_field(&mut message, 3, entry.mod_revision);
        number_field(&mut message, 4, entry.version);
        bytes_field(&mut message, 5, &entry.value);
        number_field(&mut message, 6, entry.lease);
    }
    message
}

const WIRE_VARINT: u8 = 0;
const WIRE_BYTES: u8 = 2;

fn bytes_field(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        message.push(field << 3 | WIRE_BYTES);
        varint(message, bytes.len() as u64);
        message.extend(bytes);
    }
}

fn number_field(message: &mut Vec<u8>, field: u8, number: i64) {
    if number != 0 {
        message.push(field << 3 | WIRE_VARINT);
        varint(message, number.cast_unsigned());
    }
}

fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

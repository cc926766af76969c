//! Relaxed writes that are published and not on disk yet. Of those that one flush finds for a key only the newest is written: the others are history
//! that memory has until it is compacted, and that only a clean stop writes down. After a crash all history counts as compacted, so nobody misses them.

use std::collections::BTreeSet;
use std::time::Duration;

use kv::{Change, Dead, Revision, VersionId};

/// How long a relaxed write may be in memory only.
pub(crate) const RELAXED_AGE_MAX: Duration = Duration::from_mins(10);
/// Changes of relaxed writes in memory only, at most; and as many again that were superseded.
const RELAXED_CHANGES_MAX: usize = 2048;
/// Bytes of relaxed writes in memory only, at most; and as many again that were superseded.
const RELAXED_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Relaxed {
    waiting: Pile,
    /// Superseded before a flush found them.
    superseded: Pile,
    flush_at: Option<Duration>,
    /// Durably reserved: no revision up to here is used again after a crash.
    pub(crate) watermark: Revision,
    /// Up to here the store has forgotten its history on its own, and the disk does not know it yet.
    pub(crate) compacted: Option<Revision>,
}

/// What a flush makes of the writes that wait.
#[derive(Default)]
pub(crate) struct Flush {
    pub(crate) written: Vec<Change>,
    superseded: Vec<Change>,
}

/// Changes in the order of their revisions.
#[derive(Default)]
struct Pile {
    changes: Vec<Change>,
    bytes: usize,
}

impl Relaxed {
    /// When they have to be flushed.
    pub(crate) fn flush_at(&self) -> Option<Duration> {
        self.flush_at
    }

    pub(crate) fn has_room(&self) -> bool {
        self.waiting.changes.len() < RELAXED_CHANGES_MAX && self.waiting.bytes < RELAXED_BYTES_MAX
    }

    /// Keeps changes in memory for a while and tells up to which version everything is on disk; `None`: everything.
    pub(crate) fn keep(&mut self, changes: &[Change], now: Duration) -> Option<VersionId> {
        self.waiting.extend(changes.to_vec());
        let first = self.waiting.changes.first()?;
        self.flush_at.get_or_insert(now + RELAXED_AGE_MAX);
        Some(VersionId(first.id.0 - 1))
    }

    /// What a flush writes now.
    pub(crate) fn flush(&self) -> Flush {
        let mut newer = BTreeSet::new();
        let mut flush = Flush::default();
        for change in self.waiting.changes.iter().rev() {
            if newer.insert(&change.key) {
                flush.written.push(change.clone());
            } else {
                flush.superseded.push(change.clone());
            }
        }
        let count = self.superseded.changes.len() + flush.superseded.len();
        let bytes = self.superseded.bytes + flush.superseded.iter().map(size).sum::<usize>();
        if count > RELAXED_CHANGES_MAX || bytes > RELAXED_BYTES_MAX {
            return Flush {
                written: self.waiting.changes.clone(),
                superseded: Vec::new(),
            };
        }
        flush.written.reverse();
        flush.superseded.reverse();
        flush
    }

    /// What the flush wrote is on disk.
    pub(crate) fn flushed(&mut self, flush: Flush) {
        self.superseded.extend(flush.superseded);
        self.waiting = Pile::default();
        self.flush_at = None;
        self.compacted = None;
    }

    /// Versions that nobody can see any more need not be written at a clean stop.
    pub(crate) fn forget(&mut self, dead: &[Dead]) {
        if self.superseded.changes.is_empty() || dead.is_empty() {
            return;
        }
        let dead: BTreeSet<VersionId> = dead.iter().map(|dead| dead.id).collect();
        let mut kept = std::mem::take(&mut self.superseded).changes;
        kept.retain(|change| !dead.contains(&change.id));
        self.superseded.extend(kept);
    }

    /// All that is not on disk.
    pub(crate) fn everything(&self) -> [&[Change]; 2] {
        [&self.superseded.changes, &self.waiting.changes]
    }
}

impl Pile {
    fn extend(&mut self, changes: Vec<Change>) {
        self.bytes += changes.iter().map(size).sum::<usize>();
        self.changes.extend(changes);
    }
}

fn size(change: &Change) -> usize {
    change.key.len() + change.entry.as_ref().map_or(0, |entry| entry.value.len())
}

//! One key in the tree: its newest version, and the older ones back to the compacted revision.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::tree::Keyed;
use crate::types::{Entry, Revision};

/// Which write of which revision made a version; grows over the life of the store. Also the row's number on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub i64);

/// Bits of a [`VersionId`] below the revision.
const SUB_BITS: u32 = 20;
/// Changes that one revision can hold at most.
pub const CHANGES_PER_REVISION_MAX: usize = (1 << SUB_BITS) - 1;

impl VersionId {
    /// The `sub`th change of a revision; `sub` is below [`CHANGES_PER_REVISION_MAX`].
    pub fn new(revision: Revision, sub: usize) -> Self {
        debug_assert!(sub < CHANGES_PER_REVISION_MAX);
        Self((revision << SUB_BITS) | i64::try_from(sub).expect("a sub-revision fits 20 bits"))
    }

    pub fn revision(self) -> Revision {
        self.0 >> SUB_BITS
    }

    /// The number of the change within its revision.
    pub(crate) fn sub(self) -> i64 {
        self.0 & ((1 << SUB_BITS) - 1)
    }
}

/// A key that is in the tree. Snapshots share it: it never changes, and its history only forgets what is compacted and gains what is newer than
/// `newest`.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: Arc<[u8]>,
    pub(crate) newest: Version,
    /// `None` while the key has had one version only.
    pub(crate) history: Option<Arc<History>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) id: VersionId,
    pub(crate) body: Body,
}

/// Where the value of a version is.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    InMemory(Arc<Entry>),
    /// An older version, to be read by its id.
    OnDisk,
    Tombstone,
}

impl Keyed for Arc<Item> {
    fn key(&self) -> &Arc<[u8]> {
        &self.key
    }

    fn is_live(&self) -> bool {
        matches!(self.newest.body, Body::InMemory(_))
    }
}

impl Item {
    /// The entry under this key now.
    pub(crate) fn entry(&self) -> Option<&Arc<Entry>> {
        match &self.newest.body {
            Body::InMemory(entry) => Some(entry),
            Body::OnDisk | Body::Tombstone => None,
        }
    }

    /// What was under this key at `revision`, which must not be compacted.
    pub(crate) fn at(&self, revision: Revision) -> Option<Version> {
        if self.newest.id.revision() <= revision {
            return Some(self.newest.clone());
        }
        self.history.as_ref()?.at(revision)
    }

    /// The versions from `revision` on, oldest first, each with the one before it.
    pub(crate) fn since(&self, revision: Revision) -> Vec<(Version, Option<Version>)> {
        if self.newest.id.revision() < revision {
            return Vec::new();
        }
        let mut versions = self
            .history
            .as_ref()
            .map_or_else(Vec::new, |history| history.before(self.newest.id));
        versions.push(self.newest.clone());
        let from = versions.partition_point(|version| version.id.revision() < revision);
        (from..versions.len())
            .map(|at| {
                (
                    versions[at].clone(),
                    at.checked_sub(1).map(|before| versions[before].clone()),
                )
            })
            .collect()
    }
}

/// The versions of a key before its newest, oldest first. Shared by all snapshots of the item: whoever reads asks only for what is older than the
/// version it already has.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<VecDeque<Version>>);

impl History {
    pub(crate) fn push(&self, version: Version) {
        let mut versions = self.0.lock();
        debug_assert!(versions.back().is_none_or(|last| last.id < version.id));
        versions.push_back(version);
    }

    /// Forgets the versions up to `id`.
    pub(crate) fn forget_through(&self, id: VersionId) {
        let mut versions = self.0.lock();
        let end = versions.partition_point(|version| version.id <= id);
        versions.drain(..end);
        if versions.is_empty() {
            versions.shrink_to_fit();
        }
    }

    fn at(&self, revision: Revision) -> Option<Version> {
        let versions = self.0.lock();
        let end = versions.partition_point(|version| version.id.revision() <= revision);
        end.checked_sub(1).map(|at| versions[at].clone())
    }

    fn before(&self, id: VersionId) -> Vec<Version> {
        let versions = self.0.lock();
        let end = versions.partition_point(|version| version.id < id);
        versions.iter().take(end).cloned().collect()
    }
}

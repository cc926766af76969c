//! Everything a store knows at one revision. A clone is a snapshot: it shares the trees and never changes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::item::{Body, History, Item, Version, VersionId};
use crate::tree::{Keyed, Tree, Which};
use crate::types::{Entry, Error, KeyRange, LeaseId, RangeContent, RangeRequest, Result, Revision};

/// The revision of an empty store.
pub const FIRST_REVISION: Revision = 1;

#[derive(Clone, Debug)]
pub struct State {
    pub(crate) items: Tree<Arc<Item>>,
    leases: Tree<LeaseGrant>,
    /// Which keys hang on which lease: the lease's id, then the key.
    attachments: Tree<Attachment>,
    pub(crate) revision: Revision,
    /// -1 as long as nothing was compacted, as in etcd.
    pub(crate) compact_revision: Revision,
    /// Bytes of the keys and values of all newest entries.
    bytes: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            items: Tree::default(),
            leases: Tree::default(),
            attachments: Tree::default(),
            revision: FIRST_REVISION,
            compact_revision: -1,
            bytes: 0,
        }
    }
}

#[derive(Clone, Debug)]
pub struct LeaseGrant {
    pub id: LeaseId,
    pub ttl: Duration,
    key: Arc<[u8]>,
}

impl Keyed for LeaseGrant {
    fn key(&self) -> &Arc<[u8]> {
        &self.key
    }
    fn is_live(&self) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
struct Attachment(Arc<[u8]>);

impl Keyed for Attachment {
    fn key(&self) -> &Arc<[u8]> {
        &self.0
    }
    fn is_live(&self) -> bool {
        true
    }
}

/// One key changed by a transaction: what goes to disk, into history and to the watchers.
#[derive(Clone, Debug)]
pub struct Change {
    pub id: VersionId,
    pub key: Arc<[u8]>,
    /// `None`: the key was deleted.
    pub entry: Option<Arc<Entry>>,
    pub previous: Option<Arc<Entry>>,
    pub(crate) superseded: Option<Superseded>,
}

/// The version that a change replaces, and the history it goes to.
#[derive(Clone, Debug)]
pub(crate) struct Superseded {
    pub(crate) version: Version,
    pub(crate) history: Arc<History>,
}

/// An entry that was found: at hand, or to be read from disk.
#[derive(Clone, Debug)]
pub(crate) enum Located {
    InMemory(Arc<Entry>),
    OnDisk(VersionId, Arc<[u8]>),
}

impl Located {
    pub(crate) fn of(version: Version, key: &Arc<[u8]>) -> Option<Self> {
        match version.body {
            Body::InMemory(entry) => Some(Self::InMemory(entry)),
            Body::OnDisk => Some(Self::OnDisk(version.id, Arc::clone(key))),
            Body::Tombstone => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) located: Vec<Located>,
    pub(crate) count: usize,
}

impl State {
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// 0 as long as nothing was compacted.
    pub fn compact_revision(&self) -> Revision {
        self.compact_revision.max(0)
    }

    /// Living keys.
    pub fn keys(&self) -> usize {
        self.items.live()
    }

    /// Bytes of the keys and values of all living keys.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn entry(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        self.items.get(key)?.entry()
    }

    pub fn lease(&self, id: LeaseId) -> Option<&LeaseGrant> {
        self.leases.get(&id.to_be_bytes())
    }

    pub fn leases(&self) -> Vec<LeaseGrant> {
        let mut all = Vec::new();
        self.leases
            .visit(&KeyRange::prefix(Vec::new()), Which::All, &mut |lease| {
                all.push(lease.clone());
                ControlFlow::Continue(())
            });
        all
    }

    /// The keys that hang on a lease, in order.
    pub fn lease_keys(&self, id: LeaseId) -> Vec<Arc<[u8]>> {
        let mut keys = Vec::new();
        self.attachments.visit(
            &KeyRange::prefix(id.to_be_bytes()),
            Which::All,
            &mut |attachment| {
                keys.push(Arc::from(&attachment.0[size_of::<LeaseId>()..]));
                ControlFlow::Continue(())
            },
        );
        keys
    }

    /// Notes a lease; the caller checked that its id is free.
    pub fn add_lease(&mut self, id: LeaseId, ttl: Duration) {
        self.leases.insert(LeaseGrant {
            id,
            ttl,
            key: Arc::from(id.to_be_bytes()),
        });
    }

    /// Forgets a lease; the caller deletes its keys.
    pub fn remove_lease(&mut self, id: LeaseId) {
        self.leases.remove(&id.to_be_bytes());
    }

    /// Errors if a reader may not ask for `revision`.
    pub(crate) fn check_revision(&self, revision: Option<Revision>) -> Result<()> {
        match revision {
            Some(asked) if asked > self.revision => Err(Error::FutureRevision),
            Some(asked) if asked > 0 && asked < self.compact_revision => Err(Error::Compacted {
                compact_revision: self.compact_revision,
            }),
            _ => Ok(()),
        }
    }

    /// What a range holds, at the newest revision or at an older one.
    pub(crate) fn find(&self, request: &RangeRequest) -> Result<Found> {
        self.check_revision(request.revision)?;
        Ok(match request.revision {
            Some(revision) if revision > 0 && revision < self.revision => {
                self.find_old(request, revision)
            }
            _ => self.find_newest(request),
        })
    }

    fn find_newest(&self, request: &RangeRequest) -> Found {
        let count = self.items.count(&request.range);
        let mut located = Vec::new();
        if request.content == RangeContent::KeysAndValues {
            let limit = limit(request);
            located.reserve_exact(count.min(limit));
            self.items.visit(&request.range, Which::Live, &mut |item| {
                located.extend(
                    item.entry()
                        .map(|entry| Located::InMemory(Arc::clone(entry))),
                );
                if located.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
        }
        Found { located, count }
    }

    fn find_old(&self, request: &RangeRequest, revision: Revision) -> Found {
        let limit = if request.content == RangeContent::CountOnly {
            0
        } else {
            limit(request)
        };
        let mut found = Found {
            located: Vec::new(),
            count: 0,
        };
        self.items.visit(&request.range, Which::All, &mut |item| {
            if let Some(located) = item
                .at(revision)
                .and_then(|version| Located::of(version, &item.key))
            {
                found.count += 1;
                if found.located.len() < limit {
                    found.located.push(located);
                }
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// Puts a key in revision `id`; the lease exists.
    pub(crate) fn put(
        &mut self,
        id: VersionId,
        key: &[u8],
        value: &Arc<[u8]>,
        lease: LeaseId,
    ) -> (Arc<Entry>, Change) {
        let old = self.items.get(key).cloned();
        let previous = old.as_ref().and_then(|item| item.entry()).cloned();
        let key = old
            .as_ref()
            .map_or_else(|| Arc::from(key), |item| Arc::clone(&item.key));
        let revision = id.revision();
        let entry = Arc::new(Entry {
            key: Arc::clone(&key),
            value: Arc::clone(value),
            create_revision: previous
                .as_ref()
                .map_or(revision, |previous| previous.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(1, |previous| previous.version + 1),
            lease,
            memo: std::sync::OnceLock::new(),
        });
        let change = self.replace(id, key, old.as_ref(), Some(Arc::clone(&entry)), previous);
        (entry, change)
    }

    /// Deletes a key that is there.
    pub(crate) fn delete(&mut self, id: VersionId, previous: &Arc<Entry>) -> Change {
        let old = self.items.get(&previous.key).cloned();
        self.replace(
            id,
            Arc::clone(&previous.key),
            old.as_ref(),
            None,
            Some(Arc::clone(previous)),
        )
    }

    fn replace(
        &mut self,
        id: VersionId,
        key: Arc<[u8]>,
        old: Option<&Arc<Item>>,
        entry: Option<Arc<Entry>>,
        previous: Option<Arc<Entry>>,
    ) -> Change {
        let superseded = old.map(|item| Superseded {
            version: item.newest.clone(),
            history: item.history.clone().unwrap_or_default(),
        });
        self.items.insert(Arc::new(Item {
            key: Arc::clone(&key),
            newest: Version {
                id,
                body: entry.clone().map_or(Body::Tombstone, Body::InMemory),
            },
            history: superseded
                .as_ref()
                .map(|superseded| Arc::clone(&superseded.history)),
        }));
        let (was, is) = (lease_of(previous.as_ref()), lease_of(entry.as_ref()));
        if was != is {
            self.detach(was, &key);
            self.attach(is, &key);
        }
        self.bytes += size_of_entry(entry.as_ref());
        self.bytes -= size_of_entry(previous.as_ref());
        Change {
            id,
            key,
            entry,
            previous,
            superseded,
        }
    }

    fn attach(&mut self, lease: LeaseId, key: &[u8]) {
        if lease != 0 {
            self.attachments
                .insert(Attachment(attachment_key(lease, key)));
        }
    }

    fn detach(&mut self, lease: LeaseId, key: &[u8]) {
        if lease != 0 {
            self.attachments.remove(&attachment_key(lease, key));
        }
    }

    /// Takes over a change that another store made; ids grow. `entry` is `None` for a delete.
    pub fn follow(&mut self, id: VersionId, key: Arc<[u8]>, entry: Option<Arc<Entry>>) -> Change {
        let old = self.items.get(&key).cloned();
        let previous = old.as_ref().and_then(|item| item.entry()).cloned();
        let key = old.as_ref().map_or(key, |item| Arc::clone(&item.key));
        self.revision = self.revision.max(id.revision());
        self.replace(id, key, old.as_ref(), entry, previous)
    }

    /// Notes that the other store came to this revision without another change of what is followed.
    pub fn reach(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Errors if `revision` may not be compacted to.
    pub fn check_compact(&self, revision: Revision) -> Result<()> {
        if revision <= self.compact_revision {
            return Err(Error::Compacted {
                compact_revision: self.compact_revision,
            });
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        Ok(())
    }

    pub fn set_compact_revision(&mut self, revision: Revision) {
        self.compact_revision = revision;
    }

    /// Forgets one version below the compacted revision.
    pub(crate) fn forget(&mut self, key: &[u8], id: VersionId) {
        let Some(item) = self.items.get(key) else {
            return;
        };
        if item.newest.id == id {
            // Only a tombstone can be both the newest version and dead.
            self.items.remove(key);
        } else if let Some(history) = &item.history {
            history.forget_through(id);
        }
    }
}

fn limit(request: &RangeRequest) -> usize {
    if request.limit == 0 {
        usize::MAX
    } else {
        request.limit
    }
}

fn size_of_entry(entry: Option<&Arc<Entry>>) -> usize {
    entry.map_or(0, |entry| entry.key.len() + entry.value.len())
}

fn lease_of(entry: Option<&Arc<Entry>>) -> LeaseId {
    entry.map_or(0, |entry| entry.lease)
}

fn attachment_key(lease: LeaseId, key: &[u8]) -> Arc<[u8]> {
    [&lease.to_be_bytes()[..], key].concat().into()
}

/// Rebuilds a state from the versions on disk.
#[derive(Debug, Default)]
pub struct Loader {
    state: State,
    changes: Vec<Change>,
}

impl Loader {
    pub fn lease(&mut self, id: LeaseId, ttl: Duration) {
        self.state.add_lease(id, ttl);
    }

    /// The newest revision among the versions so far.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// Takes the next version, in the order of ids; `entry` is `None` for a tombstone.
    pub fn version(&mut self, id: VersionId, key: Arc<[u8]>, entry: Option<Arc<Entry>>) {
        let change = self.state.follow(id, key, entry);
        if change.superseded.is_some() || change.entry.is_none() {
            self.changes.push(change);
        }
    }

    /// `revision` and `compact_revision` are what the store last knew; the newest version's revision counts if it is higher.
    pub fn finish(mut self, revision: Revision, compact_revision: Revision) -> Loaded {
        self.state.revision = self.state.revision.max(revision);
        self.state.compact_revision = compact_revision;
        Loaded {
            state: self.state,
            changes: self.changes,
        }
    }
}

/// A state and what of it is history.
#[derive(Debug)]
pub struct Loaded {
    pub state: State,
    pub(crate) changes: Vec<Change>,
}

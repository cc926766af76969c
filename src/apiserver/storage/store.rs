//! Single objects: every write is a compare-and-set on the revision that the writer has seen.

use std::sync::Arc;

use apimachinery::{ObjectKey, StoredObject};
use env::Clock;
use kv::{Compare, Durability, Kv, LeaseId, Operation, OperationResult, RangeRequest, Txn};
use registry::Retention;

use crate::memo::stored;
use crate::ticker::Ticker;
use crate::{Collection, StorageError};

/// Objects that share one lease, at most.
const OBJECTS_PER_LEASE_MAX: usize = 1000;
/// How long new objects are put on the same lease.
const LEASE_SHARED: std::time::Duration = std::time::Duration::from_mins(1);

/// Objects over a store of keys.
#[derive(Debug)]
pub struct ObjectStore {
    pub(crate) kv: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    pub(crate) ticker: Ticker,
    lease: tokio::sync::Mutex<Option<SharedLease>>,
}

/// A lease that objects with a limited life are put on for a while.
#[derive(Debug)]
struct SharedLease {
    id: LeaseId,
    seconds: u32,
    granted: std::time::Duration,
    objects: usize,
}

/// Other keys that are written with an object, in the same transaction or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alongside {
    pub compares: Vec<Compare>,
    pub operations: Vec<Operation>,
}

impl Alongside {
    /// Both, in one transaction.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.compares.extend(more.compares);
        self.operations.extend(more.operations);
        self
    }
}

impl ObjectStore {
    pub fn new(kv: Arc<dyn Kv>, clock: Arc<dyn Clock>) -> Self {
        Self {
            ticker: Ticker::default(),
            kv,
            clock,
            lease: tokio::sync::Mutex::new(None),
        }
    }

    /// The store below, for allocators that keep no objects.
    pub fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    /// The newest revision that readers see.
    pub fn current_revision(&self) -> i64 {
        self.kv.current_revision()
    }

    pub async fn get(
        &self,
        collection: &Collection,
        key: &ObjectKey,
    ) -> Result<StoredObject, StorageError> {
        let range = kv::KeyRange::key(collection.key(key));
        let response = self.kv.range(RangeRequest::newest(range)).await?;
        let entry = response
            .entries
            .first()
            .ok_or_else(|| not_found(collection, key))?;
        stored(entry, collection)
    }

    /// Stores an object that must not exist yet.
    pub async fn create(
        &self,
        collection: &Collection,
        key: &ObjectKey,
        bytes: Arc<[u8]>,
        alongside: Alongside,
    ) -> Result<StoredObject, StorageError> {
        let name = collection.key(key);
        let put = self.put(collection, &name, bytes).await?;
        let durability = collection.durability();
        self.write(collection, (key, name, 0), put, alongside, durability)
            .await
    }

    /// Replaces the version that was written at `revision`; [`StorageError::Modified`] if that is not the newest any more.
    pub async fn replace(
        &self,
        collection: &Collection,
        key: &ObjectKey,
        bytes: Arc<[u8]>,
        revision: i64,
        alongside: Alongside,
    ) -> Result<StoredObject, StorageError> {
        let name = collection.key(key);
        let put = self.put(collection, &name, bytes).await?;
        let durability = collection.durability();
        self.write(
            collection,
            (key, name, revision),
            put,
            alongside,
            durability,
        )
        .await
    }

    /// The same where nothing is new but that somebody was there: worthless after a crash.
    pub async fn renew(
        &self,
        collection: &Collection,
        key: &ObjectKey,
        bytes: Arc<[u8]>,
        revision: i64,
    ) -> Result<StoredObject, StorageError> {
        let name = collection.key(key);
        let put = self.put(collection, &name, bytes).await?;
        let (at, nothing) = ((key, name, revision), Alongside::default());
        self.write(collection, at, put, nothing, Durability::Relaxed)
            .await
    }

    /// Deletes the version that was written at `revision`. The answer is that version with the revision of the deletion.
    pub async fn delete(
        &self,
        collection: &Collection,
        key: &ObjectKey,
        revision: i64,
        alongside: Alongside,
    ) -> Result<StoredObject, StorageError> {
        let name = collection.key(key);
        let mut txn = Txn {
            compares: vec![Compare::mod_revision_is(name.clone(), revision)],
            success: vec![Operation::DeleteRange(kv::KeyRange::key(name))],
            failure: Vec::new(),
        };
        txn.compares.extend(alongside.compares);
        txn.success.extend(alongside.operations);
        let response = self.kv.txn(txn, Durability::Durable).await?;
        match response.results.first() {
            Some(OperationResult::Delete { previous }) if response.succeeded => {
                let last = previous.first().ok_or_else(|| not_found(collection, key))?;
                Ok(StoredObject {
                    revision: response.revision,
                    ..stored(last, collection)?
                })
            }
            _ => Err(modified(collection, key)),
        }
    }

    async fn put(
        &self,
        collection: &Collection,
        name: &[u8],
        value: Arc<[u8]>,
    ) -> Result<Operation, StorageError> {
        let lease = match collection.retention {
            Retention::Seconds(seconds) => self.lease(seconds).await?,
            Retention::Durable | Retention::Relaxed => 0,
        };
        Ok(Operation::Put {
            key: name.to_vec(),
            value,
            lease,
        })
    }

    /// Writes the object if its newest version is of `revision` (0: if there is none).
    async fn write(
        &self,
        collection: &Collection,
        (key, name, revision): (&ObjectKey, Vec<u8>, i64),
        put: Operation,
        alongside: Alongside,
        durability: Durability,
    ) -> Result<StoredObject, StorageError> {
        let look = RangeRequest {
            content: kv::RangeContent::KeysAndValues,
            ..RangeRequest::newest(kv::KeyRange::key(name.clone()))
        };
        let mut txn = Txn {
            compares: vec![Compare::mod_revision_is(name, revision)],
            success: vec![put],
            failure: vec![Operation::Range(look)],
        };
        txn.compares.extend(alongside.compares);
        txn.success.extend(alongside.operations);
        let response = self.kv.txn(txn, durability).await?;
        match response.results.first() {
            Some(OperationResult::Put { entry, .. }) if response.succeeded => {
                stored(entry, collection)
            }
            Some(OperationResult::Range(found)) => {
                let newest = found.entries.first().map_or(0, |entry| entry.mod_revision);
                Err(if newest == revision {
                    StorageError::Contended
                } else if revision == 0 {
                    StorageError::AlreadyExists {
                        resource: collection.resource.clone(),
                        name: key.name.clone(),
                    }
                } else {
                    modified(collection, key)
                })
            }
            _ => Err(modified(collection, key)),
        }
    }

    /// A lease that lasts at least `seconds` from now. Objects written close together share one.
    async fn lease(&self, seconds: u32) -> Result<LeaseId, StorageError> {
        let mut shared = self.lease.lock().await;
        let now = self.clock.monotonic();
        if let Some(lease) = shared.as_mut().filter(|lease| {
            lease.seconds == seconds
                && lease.objects < OBJECTS_PER_LEASE_MAX
                && now.saturating_sub(lease.granted) < LEASE_SHARED
        }) {
            lease.objects += 1;
            return Ok(lease.id);
        }
        let ttl = std::time::Duration::from_secs(u64::from(seconds)) + LEASE_SHARED;
        let granted = self.kv.lease_grant(0, ttl).await?;
        *shared = Some(SharedLease {
            id: granted.id,
            seconds,
            granted: now,
            objects: 1,
        });
        Ok(granted.id)
    }
}

pub(crate) fn not_found(collection: &Collection, key: &ObjectKey) -> StorageError {
    StorageError::NotFound {
        resource: collection.resource.clone(),
        name: key.name.clone(),
    }
}

fn modified(collection: &Collection, key: &ObjectKey) -> StorageError {
    StorageError::Modified {
        resource: collection.resource.clone(),
        name: key.name.clone(),
    }
}

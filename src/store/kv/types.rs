//! What goes in and out of a store: the words are those of etcd's v3 API.

use std::any::Any;
use std::fs::File;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

/// The version of the whole store; grows by one with every successful write transaction, starts at 1 when empty.
pub type Revision = i64;
/// A lease's identity; 0 is "no lease".
pub type LeaseId = i64;

/// One version of one key. Shared by the store, the watch cache and every reader in the process: never copied.
#[derive(Debug)]
pub struct Entry {
    pub key: Arc<[u8]>,
    pub value: Arc<[u8]>,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// Writes since the key was created, starting at 1.
    pub version: i64,
    pub lease: LeaseId,
    /// What a reader extracted from the value (labels, owners, an encoding); computed once, dropped with the entry.
    pub memo: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A half-open range of keys `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub start: Vec<u8>,
    /// `None`: exactly the key `start`. An empty end means "to the last key" (etcd's `\0`).
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self {
            start: key.into(),
            end: None,
        }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let start = prefix.into();
        let mut end = start.clone();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        Self {
            start,
            end: Some(end),
        }
    }

    pub fn from_to(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self {
            start: start.into(),
            end: Some(end.into()),
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            None => key == self.start.as_slice(),
            Some(end) => key >= self.start.as_slice() && (end.is_empty() || key < end.as_slice()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRequest {
    pub range: KeyRange,
    /// `None`: the newest revision.
    pub revision: Option<Revision>,
    /// 0: no limit.
    pub limit: usize,
    pub content: RangeContent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeContent {
    KeysAndValues,
    CountOnly,
}

impl RangeRequest {
    pub fn newest(range: KeyRange) -> Self {
        Self {
            range,
            revision: None,
            limit: 0,
            content: RangeContent::KeysAndValues,
        }
    }
}

#[derive(Clone, Debug)]
pub struct RangeResponse {
    /// The store's revision when the range was read.
    pub revision: Revision,
    /// In key order.
    pub entries: Vec<Arc<Entry>>,
    /// All keys in the range at that revision, whatever the limit.
    pub count: usize,
}

/// A condition on every key of a range. Where there is no key, it is one on create and mod revision, version and lease 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub range: KeyRange,
    pub target: CompareTarget,
    pub operator: CompareOperator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    CreateRevision(Revision),
    ModRevision(Revision),
    Version(i64),
    Lease(LeaseId),
    Value(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOperator {
    Equal,
    NotEqual,
    Greater,
    Less,
}

impl Compare {
    pub fn mod_revision_is(key: impl Into<Vec<u8>>, revision: Revision) -> Self {
        Self {
            range: KeyRange::key(key),
            target: CompareTarget::ModRevision(revision),
            operator: CompareOperator::Equal,
        }
    }

    pub fn absent(key: impl Into<Vec<u8>>) -> Self {
        Self::mod_revision_is(key, 0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Range(RangeRequest),
    Put {
        key: Vec<u8>,
        value: Arc<[u8]>,
        lease: LeaseId,
    },
    /// Puts a key that must be there; what is `None` stays as it is.
    Update {
        key: Vec<u8>,
        value: Option<Arc<[u8]>>,
        lease: Option<LeaseId>,
    },
    DeleteRange(KeyRange),
    /// Its conditions, too, are those before the whole transaction, and its writes are of the same revision.
    Txn(Txn),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold for `success` to run; else `failure` runs.
    pub compares: Vec<Compare>,
    pub success: Vec<Operation>,
    pub failure: Vec<Operation>,
}

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// After it is on stable storage.
    #[default]
    Durable,
    /// Acknowledged at once, in order, on stable storage with the next durable batch or after ten minutes: for node leases only.
    Relaxed,
}

#[derive(Clone, Debug)]
pub struct TxnResponse {
    pub succeeded: bool,
    /// The store's revision after the transaction: that of its write, if it wrote anything.
    pub revision: Revision,
    pub results: Vec<OperationResult>,
}

#[derive(Clone, Debug)]
pub enum OperationResult {
    Range(RangeResponse),
    Put {
        entry: Arc<Entry>,
        previous: Option<Arc<Entry>>,
    },
    Delete {
        previous: Vec<Arc<Entry>>,
    },
    Txn(TxnResponse),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// The first revision to see; `None`: only what comes after the call.
    pub start_revision: Option<Revision>,
}

/// One change of one key.
#[derive(Clone, Debug)]
pub enum Event {
    Put {
        entry: Arc<Entry>,
        previous: Option<Arc<Entry>>,
    },
    /// `previous` is missing only where history before the watch was compacted.
    Delete {
        key: Arc<[u8]>,
        revision: Revision,
        previous: Option<Arc<Entry>>,
    },
}

impl Event {
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { entry, .. } => entry.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    pub fn key(&self) -> &Arc<[u8]> {
        match self {
            Self::Put { entry, .. } => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// What a watch delivers, in revision order. The events of one revision are never split over two messages.
#[derive(Clone, Debug)]
pub enum WatchMessage {
    /// The events of one or more whole revisions; never empty.
    Events(Arc<[Event]>),
    /// Everything up to this revision was delivered. A watch that starts after the next revision gives no such answer until its time comes.
    Progress(Revision),
    /// The start revision is compacted; nothing follows.
    Compacted { compact_revision: Revision },
}

/// A running watch; dropping it ends it. The receiver ends when the store closes.
#[derive(Debug)]
pub struct WatchStream {
    pub messages: mpsc::Receiver<WatchMessage>,
    pub progress: ProgressRequester,
}

/// Asks for a `Progress` message, which arrives in order with the events.
#[derive(Clone, Debug)]
pub struct ProgressRequester(pub mpsc::Sender<()>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    pub id: LeaseId,
    pub granted_ttl: Duration,
    pub remaining: Duration,
    pub keys: Vec<Arc<[u8]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub revision: Revision,
    pub compact_revision: Revision,
    pub size_bytes: u64,
    pub size_in_use_bytes: u64,
    pub keys: usize,
}

/// A checksum over the versions of all keys, which equals that of an etcd with the same history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// The newest revision whose versions are in it.
    pub hash_revision: Revision,
    /// -1 as long as nothing was compacted, as in etcd.
    pub compact_revision: Revision,
    /// The store's revision.
    pub revision: Revision,
}

/// The texts are etcd's: clients compare them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted { compact_revision: Revision },
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOperations,
    #[error("etcdserver: request is too large")]
    TooLarge,
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    #[error("the store is closed")]
    Closed,
    #[error("the store cannot write: {0}")]
    Io(String),
    /// A store elsewhere gave no answer that says more; a write may have been done.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// What this kind of store cannot do.
    #[error("{0}")]
    Unsupported(&'static str),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How long commits took since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitTimes {
    /// How many took no longer than each bound, in ascending order.
    pub up_to: Vec<(Duration, u64)>,
    pub count: u64,
    pub sum: Duration,
}

/// Why a store refuses writes until somebody says that it may take them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// It is as large as it may be: what adds to it is refused, deletes and compaction are not.
    NoSpace,
    /// Something in it is not what was written: it is only read.
    Corrupt,
}

/// A store with etcd's promises: linearizable reads and writes, one revision order, watches without gaps.
#[async_trait]
pub trait Kv: Send + Sync + std::fmt::Debug {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse>;

    async fn txn(&self, txn: Txn, durability: Durability) -> Result<TxnResponse>;

    /// Events from `start_revision` on; a watcher that reads slowly delays nobody and loses nothing until its position is compacted.
    async fn watch(&self, request: WatchRequest) -> Result<WatchStream>;

    /// Forgets history below `revision`; reads and watches there answer `Compacted`. Keys keep their newest version.
    async fn compact(&self, revision: Revision) -> Result<()>;

    /// Returns once nothing is left of what was compacted before the call.
    async fn swept(&self) -> Result<()>;

    /// Grants a lease; `id` 0 lets the store choose.
    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus>;

    /// Ends a lease and deletes its keys in one revision.
    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision>;

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration>;

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus>;

    /// All leases; the one that ends first stands first.
    async fn leases(&self) -> Result<Vec<LeaseId>>;

    async fn status(&self) -> Result<Status>;

    /// The checksum up to `revision`; `None`: up to the newest.
    async fn hash_kv(&self, revision: Option<Revision>) -> Result<HashKv>;

    /// Gives back the space that is free within the store; writes wait meanwhile.
    async fn defragment(&self) -> Result<()>;

    /// The store as it is at this moment, in a file that has no name any more.
    async fn snapshot(&self) -> Result<File>;

    /// The newest revision that readers see.
    fn current_revision(&self) -> Revision;

    /// The alarms that are raised; none in a store that has no file of its own.
    fn alarms(&self) -> Vec<Alarm> {
        Vec::new()
    }

    async fn raise_alarm(&self, _alarm: Alarm) -> Result<()> {
        Err(Error::Unsupported("this store has no alarms"))
    }

    /// Lets a store take writes again, and tells whether the alarm was raised.
    async fn clear_alarm(&self, _alarm: Alarm) -> Result<bool> {
        Ok(false)
    }

    /// `None` for a store that has no disk of its own.
    fn commit_times(&self) -> Option<CommitTimes> {
        None
    }

    /// How large the store may be.
    fn quota_bytes(&self) -> Option<u64> {
        None
    }
}

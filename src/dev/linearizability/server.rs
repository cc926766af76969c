//! The server that is killed: a store on disk behind etcd's API, in a process of its own. It can be made to break a promise, so that it is seen
//! whether anybody notices.

use std::collections::VecDeque;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use etcd::{Door, Identity};
use kv::{
    Durability, HashKv, Kv, LeaseId, LeaseStatus, Operation, RangeRequest, RangeResponse, Result,
    Revision, Status, Txn, TxnResponse, WatchMessage, WatchRequest, WatchStream,
};
use sqlite::{Options, RelaxedWrites, SqliteKv};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

use crate::history::RELAXED_PREFIX;
use crate::model::Leases;

/// A broken promise shows up about once in so many cases.
const ONCE_IN: u64 = 5;
/// Answers that are kept to be given again.
const OLD_ANSWERS_MAX: usize = 32;
const QUEUE_MAX: usize = 64;

/// A promise that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    Nothing,
    /// A read is answered as the same one was before.
    StaleRead,
    /// No write waits for the disk.
    LostWrites,
    /// A watch leaves an event out.
    LostEvent,
}

impl Plant {
    pub(crate) const ALL: [(&'static str, Self); 4] = [
        ("nothing", Self::Nothing),
        ("stale-read", Self::StaleRead),
        ("lost-writes", Self::LostWrites),
        ("lost-event", Self::LostEvent),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(other, _)| *other == name);
        found.map(|(_, plant)| *plant)
    }

    pub(crate) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, other)| *other == self);
        found.map_or("", |(name, _)| name)
    }
}

/// Serves a store until it is killed; prints the revision that it begins with.
pub(crate) async fn serve(
    file: &Path,
    port: u16,
    leases: Leases,
    plant: Plant,
) -> anyhow::Result<()> {
    let options = Options {
        auto_compaction: None,
        relaxed_writes: match leases {
            Leases::Strict if plant != Plant::LostWrites => RelaxedWrites::Strict,
            _ => RelaxedWrites::Allowed,
        },
        ..Options::default()
    };
    let store = SqliteKv::open(file, options)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("{}", store.current_revision());
    let kv = Arc::new(Planted {
        store,
        plant,
        cases: AtomicU64::new(0),
        old_answers: Mutex::default(),
    });
    let identity = Identity::derived(b"linearizability", "default", Vec::new());
    let (_trigger, shutdown) = env::Shutdown::new();
    etcd::serve(kv, identity, listener, Door::Open, shutdown).await;
    Ok(())
}

#[derive(Debug)]
struct Planted {
    store: Arc<SqliteKv>,
    plant: Plant,
    cases: AtomicU64,
    old_answers: Mutex<VecDeque<(RangeRequest, RangeResponse)>>,
}

impl Planted {
    fn is_due(&self, plant: Plant) -> bool {
        self.plant == plant && self.cases.fetch_add(1, Ordering::Relaxed) % ONCE_IN == ONCE_IN - 1
    }

    /// The API server asks for relaxed writes of nodes' leases only.
    fn durability(&self, txn: &Txn) -> Durability {
        let relaxed = |operation: &Operation| match operation {
            Operation::Put { key, lease, .. } => {
                *lease == 0 && key.starts_with(RELAXED_PREFIX.as_bytes())
            }
            Operation::Range(_) => true,
            _ => false,
        };
        let all = txn.success.iter().chain(&txn.failure).all(relaxed);
        if all || self.plant == Plant::LostWrites {
            Durability::Relaxed
        } else {
            Durability::Durable
        }
    }
}

/// A watch that leaves out a message now and then.
fn without_some(stream: WatchStream) -> WatchStream {
    let (queue, messages) = mpsc::channel(QUEUE_MAX);
    let mut all = stream.messages;
    env::spawn(async move {
        let mut cases = 0;
        while let Some(message) = all.recv().await {
            cases += 1;
            let left_out = cases % ONCE_IN == 0 && matches!(message, WatchMessage::Events(_));
            if !left_out && queue.send(message).await.is_err() {
                return;
            }
        }
    });
    WatchStream {
        messages,
        progress: stream.progress,
    }
}

#[async_trait]
impl Kv for Planted {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        if self.plant != Plant::StaleRead {
            return self.store.range(request).await;
        }
        let mut old_answers = self.old_answers.lock().await;
        let same = old_answers.iter().find(|(asked, _)| *asked == request);
        if let Some((_, answer)) = same
            && self.is_due(Plant::StaleRead)
        {
            return Ok(answer.clone());
        }
        let answer = self.store.range(request.clone()).await?;
        old_answers.truncate(OLD_ANSWERS_MAX - 1);
        old_answers.push_front((request, answer.clone()));
        Ok(answer)
    }

    async fn txn(&self, txn: Txn, _durability: Durability) -> Result<TxnResponse> {
        let durability = self.durability(&txn);
        self.store.txn(txn, durability).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        let stream = self.store.watch(request).await?;
        Ok(match self.plant {
            Plant::LostEvent => without_some(stream),
            _ => stream,
        })
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.store.compact(revision).await
    }

    async fn swept(&self) -> Result<()> {
        self.store.swept().await
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus> {
        self.store.lease_grant(id, ttl).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision> {
        self.store.lease_revoke(id).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration> {
        self.store.lease_keep_alive(id).await
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus> {
        self.store.lease_status(id).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>> {
        self.store.leases().await
    }

    async fn status(&self) -> Result<Status> {
        self.store.status().await
    }

    async fn hash_kv(&self, revision: Option<Revision>) -> Result<HashKv> {
        self.store.hash_kv(revision).await
    }

    async fn defragment(&self) -> Result<()> {
        self.store.defragment().await
    }

    async fn snapshot(&self) -> Result<File> {
        self.store.snapshot().await
    }

    fn current_revision(&self) -> Revision {
        self.store.current_revision()
    }
}

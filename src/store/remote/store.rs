//! The store itself: reads from the mirror, writes to etcd.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use env::{Rng, SystemRng};
use etcd::proto::etcdserverpb as pb;
use kv::{
    Durability, Error, HashKv, KeyRange, Kv, LeaseId, LeaseStatus, Limits, Operation, RangeRequest,
    RangeResponse, Result, Revision, Status, Txn, TxnResponse, WatchMessage, WatchRequest,
    WatchStream,
};
use sqlite::SealedPrefix;
use tokio::sync::watch;
use tonic::Code;

use crate::client::{CALL_TIME_MAX, Client, Repeat};
use crate::compactor::Compactor;
use crate::follower::{Follower, list};
use crate::fresh::Fresh;
use crate::history::{History, next_soon};
use crate::mirror::Mirror;
use crate::seals::Seals;
use crate::status;
use crate::version;
use crate::watching::{Before, Ended, Watching};
use crate::wire::{self, header_revision, range_start};

/// As kube-apiserver does by default.
const COMPACTION: Duration = Duration::from_mins(5);
/// Between two tries to reach a cluster for the first time.
const OPEN_PAUSE: Duration = Duration::from_secs(2);

/// What can be chosen about a store in an etcd cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// What this process keeps a copy of: only this can be watched.
    pub mirrored: KeyRange,
    pub limits: Limits,
    /// Which keys' values etcd gets encrypted only; the longest prefix counts.
    pub sealers: Vec<SealedPrefix>,
    /// How often history that is older than this is forgotten. `None`: only when asked.
    pub auto_compaction: Option<Duration>,
    pub rng: Arc<dyn Rng>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mirrored: KeyRange::prefix(""),
            limits: Limits::default(),
            sealers: Vec::new(),
            auto_compaction: Some(COMPACTION),
            rng: SystemRng::shared(),
        }
    }
}

/// An etcd cluster as a store. Dropping it, or [`RemoteKv::close`], ends its watches.
#[derive(Debug)]
pub struct RemoteKv {
    store: Arc<Store>,
}

/// What the tasks of a store share.
#[derive(Debug)]
pub(crate) struct Store {
    client: Client,
    limits: Limits,
    mirror: Arc<Mirror>,
    seals: Arc<Seals>,
    fresh: Fresh,
    /// What etcd has forgotten, as far as it was told here; -1 as long as nothing was.
    compacted: AtomicI64,
    closed: watch::Sender<bool>,
}

impl RemoteKv {
    /// Reads what is to be mirrored; waits, and says so, while no member can be reached.
    pub async fn open(client: Client, options: Options) -> Result<Arc<Self>> {
        let seals = Arc::new(Seals::new(options.sealers));
        let (entries, revision) = loop {
            match read_all(&client, &options.mirrored, &seals).await {
                Err(Error::Unavailable(why)) => {
                    tracing::warn!(why, "waiting for the datastore {}", client.endpoints());
                    env::sleep(OPEN_PAUSE).await;
                }
                read => break read?,
            }
        };
        let mirror = Arc::new(Mirror::new(options.mirrored, entries, revision));
        let closed = watch::Sender::new(false);
        let follower = Follower {
            client: client.clone(),
            mirror: Arc::downgrade(&mirror),
            seals: Arc::clone(&seals),
            rng: options.rng,
            closed: closed.subscribe(),
        };
        env::spawn(follower.run());
        let store = Arc::new(Store {
            client,
            limits: options.limits,
            mirror,
            seals,
            fresh: Fresh::default(),
            compacted: AtomicI64::new(-1),
            closed,
        });
        store.ask_compacted().await;
        if let Some(every) = options.auto_compaction {
            let compactor = Compactor {
                store: Arc::downgrade(&store),
                every,
                closed: store.closed.subscribe(),
            };
            env::spawn(compactor.run());
        }
        Ok(Arc::new(Self { store }))
    }

    /// Calls to the same cluster.
    pub fn client(&self) -> &Client {
        &self.store.client
    }

    /// Refuses everything from now on and ends all watches.
    pub fn close(&self) {
        self.store.closed.send_replace(true);
        self.store.mirror.replica.close();
    }
}

impl Drop for RemoteKv {
    fn drop(&mut self) {
        self.close();
    }
}

async fn read_all(
    client: &Client,
    range: &KeyRange,
    seals: &Seals,
) -> Result<(Vec<Arc<kv::Entry>>, Revision)> {
    version::check(client).await?;
    list(client, range, seals).await.map_err(status::error)
}

impl Store {
    async fn call<R, T, F>(
        &self,
        repeat: Repeat,
        request: R,
        call: impl Fn(Client, R) -> F + Send,
    ) -> Result<T>
    where
        R: Clone + Send,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send,
    {
        if *self.closed.borrow() {
            return Err(Error::Closed);
        }
        match self.client.call(repeat, request, call).await {
            Ok(answer) => Ok(answer),
            Err(refused) if status::is_compacted(&refused) => Err(self.compacted().await),
            Err(refused) => Err(status::error(refused)),
        }
    }

    /// The error of a compacted revision.
    async fn compacted(&self) -> Error {
        self.ask_compacted().await;
        Error::Compacted {
            compact_revision: self.compacted.load(Ordering::Acquire).max(0),
        }
    }

    /// Learns what etcd has forgotten, which it tells only to whoever watches from before that.
    async fn ask_compacted(&self) {
        let range = match self.mirror.range.start.as_slice() {
            [] => KeyRange::key([0]),
            start => KeyRange::key(start),
        };
        let asked = async {
            let mut watching = Watching::begin(&self.client, &range, 1, Before::Known).await?;
            watching.ask_progress();
            next_soon(&mut watching, &self.seals).await.map(drop)
        };
        if let Ok(Err(Ended::Compacted(revision))) = env::timeout(CALL_TIME_MAX, asked).await {
            self.learn_compacted(revision);
        }
    }

    pub(crate) fn learn_compacted(&self, revision: Revision) {
        self.compacted.fetch_max(revision, Ordering::AcqRel);
        self.mirror.compacted(revision);
    }

    /// Waits until the mirror has everything that was done before the call.
    async fn catch_up(&self) -> Result<()> {
        let client = self.client.clone();
        let request = pb::RangeRequest {
            key: range_start(&KeyRange::prefix(self.mirror.range.start.clone())),
            count_only: true,
            ..pb::RangeRequest::default()
        };
        if *self.closed.borrow() {
            return Err(Error::Closed);
        }
        let revision = self.fresh.revision(move || async move {
            let answer = client
                .call(Repeat::Allowed, request, |client, request| async move {
                    client.kv().range(request).await
                })
                .await;
            let answer = answer.map_err(status::error)?;
            Ok(header_revision(answer.header.as_ref()))
        });
        self.mirror.reach(revision.await?, CALL_TIME_MAX).await
    }

    pub(crate) fn current_revision(&self) -> Revision {
        self.mirror.revision()
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        if request.range.start.is_empty() && request.range.end.is_none() {
            return Err(Error::EmptyKey);
        }
        if !self.mirror.covers(&request.range) {
            return self.range_in_etcd(request).await;
        }
        match request.revision.filter(|revision| *revision > 0) {
            Some(old) if old < self.mirror.begins_after() => {
                return self.range_in_etcd(request).await;
            }
            // Nothing can change what was.
            Some(old) if old <= self.mirror.revision() => {}
            _ => self.catch_up().await?,
        }
        match self.mirror.replica.range(&request).await {
            // The mirror forgot it in the meantime.
            Err(Error::Compacted { .. }) => self.range_in_etcd(request).await,
            answer => answer,
        }
    }

    async fn range_in_etcd(&self, request: RangeRequest) -> Result<RangeResponse> {
        let request = wire::range_request(&request);
        let answer = self
            .call(Repeat::Allowed, request, |client, request| async move {
                client.kv().range(request).await
            })
            .await?;
        let revision = header_revision(answer.header.as_ref());
        Ok(wire::range_response(answer, revision, &self.seals))
    }

    pub(crate) async fn txn(&self, txn: Txn, _durability: Durability) -> Result<TxnResponse> {
        txn.check(&self.limits)?;
        let request = wire::txn_request(&txn, &self.seals)?;
        let repeat = if only_reads(&txn) {
            Repeat::Allowed
        } else {
            Repeat::Unseen
        };
        let answer = self
            .call(repeat, request, |client, request| async move {
                client.kv().txn(request).await
            })
            .await?;
        wire::txn_response(&txn, answer, &self.seals)
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        if !self.mirror.covers(&request.range) {
            return Err(Error::Unsupported(
                "only what a server mirrors of its etcd cluster can be watched",
            ));
        }
        let start = request.start_revision.filter(|start| *start != 0);
        match start {
            Some(start) if start < 0 => {
                let (queue, messages) = tokio::sync::mpsc::channel(1);
                let message = WatchMessage::Compacted {
                    compact_revision: self.compacted.load(Ordering::Acquire).max(0),
                };
                let _sent = queue.try_send(message);
                let (progress, _requests) = tokio::sync::mpsc::channel(1);
                return Ok(WatchStream {
                    messages,
                    progress: kv::ProgressRequester(progress),
                });
            }
            Some(start) if start <= self.mirror.begins_after() => {
                let history = History {
                    client: self.client.clone(),
                    mirror: Arc::clone(&self.mirror),
                    seals: Arc::clone(&self.seals),
                    range: request.range,
                };
                return Ok(history.watch(start));
            }
            Some(_) => {}
            None => self.catch_up().await?,
        }
        self.mirror.replica.watch(request)
    }

    pub(crate) async fn compact(&self, revision: Revision) -> Result<()> {
        let request = pb::CompactionRequest {
            revision,
            physical: false,
        };
        self.call(Repeat::Unseen, request, |client, request| async move {
            client.kv().compact(request).await
        })
        .await?;
        self.learn_compacted(revision);
        Ok(())
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let request = pb::LeaseGrantRequest {
            ttl: i64::try_from(seconds).map_err(|_too_large| Error::LeaseTtlTooLarge)?,
            id,
        };
        let answer = self
            .call(Repeat::Unseen, request, |client, request| async move {
                client.lease().lease_grant(request).await
            })
            .await?;
        let ttl = self::seconds(answer.ttl);
        Ok(LeaseStatus {
            id: answer.id,
            granted_ttl: ttl,
            remaining: ttl,
            keys: Vec::new(),
        })
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration> {
        let request = pb::LeaseKeepAliveRequest { id };
        let answer = self
            .call(Repeat::Allowed, request, |client, request| async move {
                let once = futures_util::stream::once(std::future::ready(request));
                // The stream ends with the request; etcd answers it first.
                let mut answers = client.lease().lease_keep_alive(once).await?.into_inner();
                let answer = answers.message().await?;
                answer
                    .map(tonic::Response::new)
                    .ok_or_else(|| tonic::Status::new(Code::Unavailable, "no answer"))
            })
            .await?;
        if answer.ttl <= 0 {
            return Err(Error::LeaseNotFound);
        }
        Ok(seconds(answer.ttl))
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus> {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let answer = self
            .call(Repeat::Allowed, request, |client, request| async move {
                client.lease().lease_time_to_live(request).await
            })
            .await?;
        if answer.ttl < 0 {
            return Err(Error::LeaseNotFound);
        }
        let mut keys: Vec<Arc<[u8]>> = answer.keys.into_iter().map(Arc::from).collect();
        keys.sort();
        Ok(LeaseStatus {
            id,
            granted_ttl: seconds(answer.granted_ttl),
            remaining: seconds(answer.ttl),
            keys,
        })
    }

    async fn status(&self) -> Result<Status> {
        self.catch_up().await?;
        let request = pb::StatusRequest::default();
        let answer = self
            .call(Repeat::Allowed, request, |client, request| async move {
                client.maintenance().status(request).await
            })
            .await?;
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
        let state = self.mirror.replica.snapshot();
        Ok(Status {
            revision: state.revision(),
            compact_revision: self.compacted.load(Ordering::Acquire).max(0),
            size_bytes: size(answer.db_size),
            size_in_use_bytes: size(answer.db_size_in_use),
            keys: state.keys(),
        })
    }
}

fn only_reads(txn: &Txn) -> bool {
    let mut operations = txn.success.iter().chain(&txn.failure);
    operations.all(|operation| match operation {
        Operation::Range(_) => true,
        Operation::Txn(inner) => only_reads(inner),
        _ => false,
    })
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[async_trait]
impl Kv for RemoteKv {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.store.range(request).await
    }

    async fn txn(&self, txn: Txn, durability: Durability) -> Result<TxnResponse> {
        self.store.txn(txn, durability).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        self.store.watch(request).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.store.compact(revision).await
    }

    async fn swept(&self) -> Result<()> {
        // When its members forget what was compacted is etcd's own matter.
        Ok(())
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus> {
        self.store.lease_grant(id, ttl).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision> {
        let request = pb::LeaseRevokeRequest { id };
        let store = &self.store;
        let answer = store
            .call(Repeat::Unseen, request, |client, request| async move {
                client.lease().lease_revoke(request).await
            })
            .await?;
        Ok(header_revision(answer.header.as_ref()))
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration> {
        self.store.lease_keep_alive(id).await
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus> {
        self.store.lease_status(id).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>> {
        let store = &self.store;
        let answer = store
            .call(
                Repeat::Allowed,
                pb::LeaseLeasesRequest::default(),
                |client, request| async move { client.lease().lease_leases(request).await },
            )
            .await?;
        Ok(answer.leases.into_iter().map(|lease| lease.id).collect())
    }

    async fn status(&self) -> Result<Status> {
        self.store.status().await
    }

    async fn hash_kv(&self, revision: Option<Revision>) -> Result<HashKv> {
        let request = pb::HashKvRequest {
            revision: revision.unwrap_or(0),
        };
        let store = &self.store;
        let answer = store
            .call(Repeat::Allowed, request, |client, request| async move {
                client.maintenance().hash_kv(request).await
            })
            .await?;
        Ok(HashKv {
            hash: answer.hash,
            hash_revision: answer.hash_revision,
            compact_revision: answer.compact_revision,
            revision: header_revision(answer.header.as_ref()),
        })
    }

    async fn defragment(&self) -> Result<()> {
        Err(Error::Unsupported(
            "an etcd cluster is defragmented member by member: use `etcdctl defrag`",
        ))
    }

    async fn snapshot(&self) -> Result<File> {
        Err(Error::Unsupported(
            "an etcd cluster is copied by its own tools: use `etcdctl snapshot save`",
        ))
    }

    fn current_revision(&self) -> Revision {
        self.store.current_revision()
    }
}

//! A store in memory: the whole of etcd's promises but durability. The model that other stores are tested against, and the store of other crates'
//! tests.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use env::{Clock, Rng, SystemClock, SystemRng};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::item::VersionId;
use crate::leases::{LeaseTimes, plan_grant};
use crate::replica::Replica;
use crate::state::{Loader, State};
use crate::transact::Limits;
use crate::types::{
    Durability, Error, HashKv, Kv, LeaseId, LeaseStatus, RangeRequest, RangeResponse, Result,
    Revision, Status, Txn, TxnResponse, WatchRequest, WatchStream,
};

/// Versions that are forgotten in one step of a compaction.
const FORGET_STEP: usize = 4096;

/// Where a store's time and chance come from, and how large a transaction may be.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub limits: Limits,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            clock: SystemClock::shared(),
            rng: SystemRng::shared(),
            limits: Limits::default(),
        }
    }
}

/// Dropping it, or [`MemoryKv::close`], ends its watches.
#[derive(Debug)]
pub struct MemoryKv {
    store: Arc<Store>,
}

#[derive(Debug)]
struct Store {
    options: MemoryOptions,
    replica: Arc<Replica>,
    writer: Mutex<Writer>,
    times: LeaseTimes,
    /// Rings when the timer task has to look at the leases again.
    leases_changed: Notify,
}

#[derive(Debug)]
struct Writer {
    state: State,
    timer_runs: bool,
    closed: bool,
}

impl MemoryKv {
    pub fn new() -> Arc<Self> {
        Self::open(MemoryOptions::default())
    }

    pub fn open(options: MemoryOptions) -> Arc<Self> {
        let loaded = Loader::default().finish(crate::state::FIRST_REVISION, -1);
        let state = loaded.state.clone();
        let store = Store {
            times: LeaseTimes::new(Arc::clone(&options.clock)),
            replica: Replica::new(loaded, None),
            writer: Mutex::new(Writer {
                state,
                timer_runs: false,
                closed: false,
            }),
            leases_changed: Notify::new(),
            options,
        };
        Arc::new(Self {
            store: Arc::new(store),
        })
    }

    /// Looks at the leases at once, for clocks that only move when they are told to.
    pub fn check_leases(&self) {
        self.store.leases_changed.notify_one();
    }

    /// Keys in the tree, those of which only history is left among them.
    #[cfg(test)]
    pub(crate) fn store_keys_with_history(&self) -> usize {
        let mut keys = 0;
        self.store.replica.snapshot().items.visit(
            &crate::KeyRange::prefix(""),
            crate::tree::Which::All,
            &mut |_| {
                keys += 1;
                std::ops::ControlFlow::Continue(())
            },
        );
        keys
    }

    /// Refuses everything from now on and ends all watches.
    pub fn close(&self) {
        self.store.writer.lock().closed = true;
        self.store.replica.close();
        self.store.leases_changed.notify_one();
    }
}

impl Drop for MemoryKv {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store {
    /// Runs `write` on the newest state and publishes what it changed.
    fn write<T>(
        &self,
        write: impl FnOnce(&mut State) -> Result<(T, Vec<crate::state::Change>)>,
    ) -> Result<T> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(Error::Closed);
        }
        let (answer, changes) = write(&mut writer.state)?;
        self.replica.publish(&writer.state, &changes, VersionId(0));
        Ok(answer)
    }

    fn revoke(&self, id: LeaseId) -> Result<Revision> {
        while self.write(|state| Ok((state.lease(id).is_some(), state.revoke(id)?)))? {
            if self.replica.snapshot().lease(id).is_none() {
                break;
            }
        }
        self.times.stop(id);
        Ok(self.replica.snapshot().revision())
    }

    /// Starts the one task that ends leases, unless it runs.
    fn ensure_timer(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.writer.lock().timer_runs, true) {
            env::spawn(end_leases(Arc::clone(self)));
        }
    }

    /// Ends the leases whose time is over and tells when to look again; `None` once there is nothing left to wait for.
    fn end_expired(&self) -> Option<Duration> {
        for id in self.times.take_expired() {
            // Only a closed store refuses.
            let _revision = self.revoke(id);
        }
        let mut writer = self.writer.lock();
        let wait = self.times.next().filter(|_| !writer.closed);
        writer.timer_runs = wait.is_some();
        wait
    }
}

/// Ends leases when their time is over; ends itself when there is none or the store is closed.
async fn end_leases(store: Arc<Store>) {
    while let Some(wait) = store.end_expired() {
        let _rung_or_time = env::timeout(wait, store.leases_changed.notified()).await;
    }
}

#[async_trait]
impl Kv for MemoryKv {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        if request.range.start.is_empty() && request.range.end.is_none() {
            return Err(Error::EmptyKey);
        }
        self.store.replica.range(&request).await
    }

    async fn txn(&self, txn: Txn, _durability: Durability) -> Result<TxnResponse> {
        txn.check(&self.store.options.limits)?;
        self.store.write(|state| {
            let done = state.transact(&txn, None)?;
            Ok((done.response, done.changes))
        })
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        self.store.replica.watch(request)
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.store.write(|state| {
            state.check_compact(revision)?;
            state.set_compact_revision(revision);
            Ok(((), Vec::new()))
        })?;
        loop {
            let forgotten = self.store.write(|state| {
                let dead = self.store.replica.dead(state, FORGET_STEP);
                self.store.replica.forget(state, &dead);
                Ok((dead.len(), Vec::new()))
            })?;
            if forgotten < FORGET_STEP {
                return Ok(());
            }
        }
    }

    async fn swept(&self) -> Result<()> {
        // A compaction ends with it.
        Ok(())
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus> {
        let (id, ttl) = self.store.write(|state| {
            let (id, ttl) = plan_grant(state, &*self.store.options.rng, id, ttl)?;
            state.add_lease(id, ttl);
            // Under the writer's lock, so that whoever sees the lease can keep it alive.
            if self.store.times.start(id, ttl) {
                self.store.leases_changed.notify_one();
            }
            Ok(((id, ttl), Vec::new()))
        })?;
        self.store.ensure_timer();
        Ok(LeaseStatus {
            id,
            granted_ttl: ttl,
            remaining: ttl,
            keys: Vec::new(),
        })
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision> {
        self.store.revoke(id)
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration> {
        self.store.times.keep_alive(id)
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus> {
        let state = self.store.replica.snapshot();
        let lease = state.lease(id).ok_or(Error::LeaseNotFound)?;
        let remaining = self.store.times.remaining(id).ok_or(Error::LeaseNotFound)?;
        Ok(LeaseStatus {
            id,
            granted_ttl: lease.ttl,
            remaining,
            keys: state.lease_keys(id),
        })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>> {
        Ok(self.store.times.ids())
    }

    async fn status(&self) -> Result<Status> {
        let state = self.store.replica.snapshot();
        let size = state.bytes() as u64;
        Ok(Status {
            revision: state.revision(),
            compact_revision: state.compact_revision(),
            size_bytes: size,
            size_in_use_bytes: size,
            keys: state.keys(),
        })
    }

    async fn hash_kv(&self, revision: Option<Revision>) -> Result<HashKv> {
        self.store.replica.hash_kv(revision).await
    }

    async fn defragment(&self) -> Result<()> {
        Ok(())
    }

    async fn snapshot(&self) -> Result<File> {
        Err(Error::Io(
            "a store in memory has no file to copy".to_owned(),
        ))
    }

    fn current_revision(&self) -> Revision {
        self.store.replica.snapshot().revision()
    }
}

//! Writers at work on a store, who note on the disk what they are told and when.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use kv::{Durability, KeyRange, Kv as _, Operation, OperationResult, RangeRequest, Revision, Txn};
use parking_lot::Mutex;
use sqlite::{Options, SqliteKv};

use crate::fuse::Shared;
use crate::history::{History, Told};

const WRITERS: usize = 8;
/// Steps of each writer.
const STEPS: usize = 300;
const KEYS: usize = 12;
const LEASE: Duration = Duration::from_hours(24);
const VALUE_BYTES_MAX: usize = 6 << 10;
/// Now and then a value fills the log, so that it begins anew several times.
const LARGE_VALUE_BYTES: usize = 200 << 10;

/// Which writes a recording has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    Durable,
    /// Some of them relaxed.
    Mixed,
}

pub(crate) fn file(folder: &Path) -> std::path::PathBuf {
    folder.join("state.db")
}

pub(crate) fn options() -> Options {
    Options {
        auto_compaction: None,
        ..Options::default()
    }
}

/// Opens the store in `folder`, works, and closes it; tells what it had at the beginning, and what happened to it.
pub(crate) async fn run(
    folder: &Path,
    disk: &Shared<Told>,
    writes: Writes,
    seed: u64,
) -> anyhow::Result<(Revision, History)> {
    let store = SqliteKv::open(&file(folder), options())?;
    let mut history = History::default();
    let all = RangeRequest::newest(KeyRange::from_to("\0", ""));
    for entry in store.range(all).await?.entries {
        history.put(&entry);
    }
    let found = history.newest();
    let history = Arc::new(Mutex::new(history));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let writer = Writer {
            number,
            store: Arc::clone(&store),
            disk: Arc::clone(disk),
            history: Arc::clone(&history),
            rng: Rng::with_seed(seed.wrapping_mul(31).wrapping_add(number as u64)),
            writes,
        };
        tasks.spawn(writer.run());
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    store.close().await?;
    let history = history.lock().clone();
    Ok((found, history))
}

struct Writer {
    number: usize,
    store: Arc<SqliteKv>,
    disk: Shared<Told>,
    history: Arc<Mutex<History>>,
    rng: Rng,
    writes: Writes,
}

impl Writer {
    async fn run(mut self) -> anyhow::Result<()> {
        for step in 0..STEPS {
            match self.rng.usize(..100) {
                0..8 => self.delete().await?,
                8..16 => self.many().await?,
                16..20 => self.lease(step).await?,
                20..22 => self.compact().await?,
                22..45 if self.writes == Writes::Mixed => self.relaxed().await?,
                _ => self.put().await?,
            }
            // One of them gives space back, in the middle of everything.
            if self.number == 0 && step == STEPS / 2 {
                self.store.vacuum().await?;
            }
        }
        Ok(())
    }

    fn key(&mut self) -> Vec<u8> {
        format!("/writer/{}/{:02}", self.number, self.rng.usize(..KEYS)).into_bytes()
    }

    fn value(&mut self) -> Arc<[u8]> {
        let length = match self.rng.usize(..100) {
            0..2 => LARGE_VALUE_BYTES,
            _ => self.rng.usize(..VALUE_BYTES_MAX),
        };
        let mut value = vec![0; length];
        self.rng.fill(&mut value);
        value.into()
    }

    fn put_operation(&mut self, key: Vec<u8>, lease: i64) -> Operation {
        let value = self.value();
        Operation::Put { key, value, lease }
    }

    async fn put(&mut self) -> anyhow::Result<()> {
        let key = self.key();
        let operation = self.put_operation(key, 0);
        self.transact(vec![operation], Durability::Durable).await
    }

    /// A relaxed write, of a key that has no other ones.
    async fn relaxed(&mut self) -> anyhow::Result<()> {
        let key = format!("/relaxed/{}/{}", self.number, self.rng.usize(..3)).into_bytes();
        let value = Arc::from(self.rng.u64(..).to_le_bytes());
        let operation = Operation::Put {
            key,
            value,
            lease: 0,
        };
        self.transact(vec![operation], Durability::Relaxed).await
    }

    async fn delete(&mut self) -> anyhow::Result<()> {
        let operation = Operation::DeleteRange(KeyRange::key(self.key()));
        self.transact(vec![operation], Durability::Durable).await
    }

    /// Several keys in one revision: all of them or none.
    async fn many(&mut self) -> anyhow::Result<()> {
        let first = self.rng.usize(..KEYS);
        let mut operations = Vec::new();
        for step in 0..4 {
            let key = format!("/writer/{}/{:02}", self.number, (first + step) % KEYS).into_bytes();
            operations.push(match step {
                3 => Operation::DeleteRange(KeyRange::key(key)),
                _ => self.put_operation(key, 0),
            });
        }
        self.transact(operations, Durability::Durable).await
    }

    /// A lease with a key; every second one is revoked again.
    async fn lease(&mut self, step: usize) -> anyhow::Result<()> {
        let id = self.store.lease_grant(0, LEASE).await?.id;
        self.disk.lock().acknowledge(Told::Leased(id));
        let key = format!("/leased/{}/{id:x}", self.number).into_bytes();
        let operation = self.put_operation(key.clone(), id);
        self.transact(vec![operation], Durability::Durable).await?;
        if step.is_multiple_of(2) {
            self.history.lock().ended_leases.insert(id);
            let revision = self.store.lease_revoke(id).await?;
            let mut history = self.history.lock();
            history.delete(key, revision);
            self.told(revision, Durability::Durable);
        }
        Ok(())
    }

    async fn compact(&self) -> anyhow::Result<()> {
        let revision = self.store.current_revision();
        match self.store.compact(revision).await {
            Ok(()) => self.disk.lock().acknowledge(Told::Compacted(revision)),
            // Another writer was faster.
            Err(kv::Error::Compacted { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn transact(
        &self,
        operations: Vec<Operation>,
        durability: Durability,
    ) -> anyhow::Result<()> {
        let txn = Txn {
            success: operations,
            ..Txn::default()
        };
        let done = self.store.txn(txn, durability).await?;
        let mut history = self.history.lock();
        let mut wrote = false;
        for result in &done.results {
            match result {
                OperationResult::Put { entry, .. } => {
                    history.put(entry);
                    wrote = true;
                }
                OperationResult::Delete { previous } => {
                    for entry in previous {
                        history.delete(entry.key.to_vec(), done.revision);
                        wrote = true;
                    }
                }
                OperationResult::Range(_) | OperationResult::Txn(_) => {}
            }
        }
        if wrote {
            self.told(done.revision, durability);
        }
        Ok(())
    }

    fn told(&self, revision: Revision, durability: Durability) {
        let told = Told::Written(revision, durability);
        self.disk.lock().acknowledge(told);
    }
}

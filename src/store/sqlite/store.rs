//! The face of the store on disk.

use std::collections::BTreeMap;
use std::fs::{self, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kv::{
    Alarm, CommitTimes, Durability, Error, HashKv, Kv, LeaseId, LeaseStatus, LeaseTimes, Limits,
    RangeRequest, RangeResponse, ReadHistory, Replica, Result, Revision, Status, Txn, TxnResponse,
    WatchRequest, WatchStream,
};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::alarms::Alarms;
use crate::ballast::Ballast;
use crate::committer::{Maintenance, SqliteCommitter};
use crate::copy::copy_store;
use crate::counters::{Counters, Gauges};
use crate::error::{OpenError, kv_error};
use crate::load::{Opened, load};
use crate::log_check::{self, Log};
use crate::options::Options;
use crate::queue::{Command, Queue};
use crate::readers::Readers;
use crate::row;
use crate::schema;
use crate::sealer::{Sealer, Sealers};
use crate::space::Space;
use crate::structure_check::StructureCheck;
use crate::writer::{Parts, Writer};

/// Which sealing keys are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seals {
    /// How many values each key sealed.
    pub by_key: BTreeMap<i64, u64>,
    /// Values that would be sealed if they were written now, and are not.
    pub unsealed: u64,
}

/// Rows that are sealed anew with one flush; other writes wait no longer than that takes.
const RESEAL_ROWS: usize = 200;

/// A store in one `SQLite` file. Dropping it closes it in the background; [`SqliteKv::close`] waits until everything is on disk.
#[derive(Debug)]
pub struct SqliteKv {
    path: PathBuf,
    limits: Limits,
    queue: Arc<Queue>,
    replica: Arc<Replica>,
    times: Arc<LeaseTimes>,
    readers: Arc<Readers>,
    sealers: Arc<Sealers>,
    counters: Arc<Counters>,
    alarms: Arc<Alarms>,
    quota_bytes: Option<u64>,
    ended: Mutex<Option<oneshot::Receiver<Result<()>>>>,
}

impl SqliteKv {
    /// Opens a store, and makes it if it is not there; the directory must exist. Blocks while it reads: about 2 ms for each MB.
    pub fn open(path: &Path, options: Options) -> Result<Arc<Self>, OpenError> {
        let lock = lock(path)?;
        check_log(path)?;
        let failed = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let alarms = Arc::new(Alarms::load(path).map_err(failed)?);
        let sealers = Arc::new(Sealers::new(options.sealers.clone()));
        let connection = schema::open_writer(path)?;
        let Opened {
            loaded,
            jump_to,
            rows,
            is_unclean,
        } = load(&connection, path, &sealers)?;
        let readers = Arc::new(Readers::new(
            path.to_owned(),
            Arc::clone(&sealers),
            Arc::clone(&alarms),
        ));
        let replica = Replica::new(loaded, Some(Arc::clone(&readers) as Arc<dyn ReadHistory>));
        let counters = Arc::new(Counters::default());
        let committer = SqliteCommitter::new(
            connection,
            path,
            (Arc::clone(&sealers), rows),
            Arc::clone(&counters),
        )
        .map_err(OpenError::sqlite(path, "prepare for writing"))?;
        let check = is_unclean.then(|| StructureCheck::start(path, Arc::clone(&alarms)));
        let check = check.transpose();
        let check = check.map_err(OpenError::sqlite(path, "check the structure"))?;
        // After a restart every lease has its full time again, as in etcd.
        let times = Arc::new(LeaseTimes::new(Arc::clone(&options.clock)));
        for lease in replica.snapshot().leases() {
            times.start(lease.id, lease.ttl);
        }
        let queue = Queue::new();
        let (limits, quota_bytes) = (options.limits, options.quota_bytes);
        let ballast = Ballast::open(path, options.ballast_bytes);
        let mut writer = Writer::new(Parts {
            queue: Arc::clone(&queue),
            replica: Arc::clone(&replica),
            history: Arc::clone(&readers) as Arc<dyn ReadHistory>,
            times: Arc::clone(&times),
            counters: Arc::clone(&counters),
            options,
            committer: Box::new(committer),
            space: Space::new(Arc::clone(&alarms), ballast, quota_bytes),
        });
        if jump_to.is_some() {
            let failed = |error| failed(io::Error::other(error));
            writer.mark_jump().map_err(failed)?;
        }
        let ended = Some(start(writer, Arc::clone(&readers), (check, lock)));
        Ok(Arc::new(Self {
            path: path.to_owned(),
            limits,
            queue,
            replica,
            times,
            readers,
            sealers,
            counters,
            alarms,
            quota_bytes,
            ended: Mutex::new(ended),
        }))
    }

    /// Finishes what waits, refuses what follows, ends the watches, and returns once everything is on disk.
    pub async fn close(&self) -> Result<()> {
        self.queue.close();
        let ended = self.ended.lock().take();
        match ended {
            Some(ended) => ended.await.unwrap_or(Err(Error::Closed)),
            None => Ok(()),
        }
    }

    /// Seals anew what is not sealed with the newest key of its prefix, and tells how many versions that were. Other
    /// writes go on meanwhile; afterwards no former key is needed.
    pub async fn reseal(&self) -> Result<usize> {
        let mut written = 0;
        // Whatever was sealed before this call is on disk once the writer has answered.
        self.maintain(Maintenance::Reseal(Vec::new())).await?;
        loop {
            let (readers, sealers) = (Arc::clone(&self.readers), Arc::clone(&self.sealers));
            let stale = env::spawn_blocking(move || readers.with(|on| stale_rows(on, &sealers)));
            let stale = stale
                .await
                .map_err(|error| Error::Io(error.to_string()))??;
            if stale.is_empty() {
                return Ok(written);
            }
            for rows in stale.chunks(RESEAL_ROWS) {
                written += self.maintain(Maintenance::Reseal(rows.to_vec())).await?;
            }
        }
    }

    /// Which keys seal how many values on disk, old versions among them.
    pub async fn seals(&self) -> Result<Seals> {
        let (readers, sealers) = (Arc::clone(&self.readers), Arc::clone(&self.sealers));
        let seals = env::spawn_blocking(move || readers.with(|on| count_seals(on, &sealers)));
        seals.await.map_err(|error| Error::Io(error.to_string()))?
    }

    /// What the store is and has done, in Prometheus' text form.
    pub async fn metrics(&self) -> Result<String> {
        let gauges = Gauges {
            status: self.status().await?,
            log_file_bytes: schema::log_bytes(&self.path),
            waiting: self.queue.length(),
            leases: self.times.ids().len(),
        };
        Ok(self.counters.text(&gauges) + &self.alarms.text())
    }

    /// Writes the file anew, without what is free in it. Writes wait until it is done; readers of newest values do not.
    pub async fn vacuum(&self) -> Result<()> {
        self.maintain(Maintenance::Vacuum).await.map(drop)
    }

    async fn maintain(&self, work: Maintenance) -> Result<usize> {
        self.ask(|reply| Command::Maintain { work, reply }).await
    }

    /// Looks at the leases and at other things that are due at once, for clocks that only move when they are told to.
    pub fn check_time(&self) {
        self.queue.ring();
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(command(reply)).await?;
        // The writer answers everything it takes, so it panicked and its thread is about to end the process: nobody may act on a wrong answer first.
        answer.await.unwrap_or_else(|_panicked| end_process())
    }
}

impl Drop for SqliteKv {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Whether a process, be it this one, has the store at `path` open.
pub fn is_open(path: &Path) -> Result<bool, OpenError> {
    if !path.exists() {
        return Ok(false);
    }
    match lock(path) {
        Ok(_free) => Ok(false),
        Err(OpenError::InUse { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Keeps a second process from opening the store: `SQLite` alone would let it write.
fn lock(path: &Path) -> Result<fs::File, OpenError> {
    let failed = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(name)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The log has to be looked at before `SQLite` does.
fn check_log(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    match log_check::check(path).map_err(failed)? {
        Log::Whole => Ok(()),
        Log::NotNeeded => {
            tracing::warn!(
                "the store's write-ahead log is damaged, but everything in it is in the database: it begins anew"
            );
            log_check::empty(path).map_err(failed)
        }
        Log::Damaged {
            acknowledged,
            readable,
        } => Err(OpenError::Damaged {
            path: path.to_owned(),
            problem: format!(
                "of {acknowledged} pages in its write-ahead log only {readable} can be read"
            ),
        }),
    }
}

/// What a writer that panicked holds in memory cannot be trusted, and what it acknowledged is on disk.
fn end_process() -> ! {
    tracing::error!("the store's writer panicked; the process ends");
    std::process::abort()
}

/// Runs the writer on its own thread until the store is closed.
fn start(
    writer: Writer,
    readers: Arc<Readers>,
    (check, lock): (Option<StructureCheck>, fs::File),
) -> oneshot::Receiver<Result<()>> {
    let (sender, ended) = oneshot::channel();
    let work = move || {
        let outcome =
            catch_unwind(AssertUnwindSafe(|| writer.run())).unwrap_or_else(|_panic| end_process());
        readers.close();
        drop(check);
        drop(lock);
        let _nobody_waits = sender.send(outcome);
    };
    let thread = std::thread::Builder::new().name("store".into()).spawn(work);
    drop(thread.expect("a thread can be started while the process starts"));
    ended
}

#[async_trait]
impl Kv for SqliteKv {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        if request.range.start.is_empty() && request.range.end.is_none() {
            return Err(Error::EmptyKey);
        }
        let found = self.replica.range(&request).await;
        if found.as_ref().is_err_and(|error| *error == Error::Corrupt) {
            // No compaction explains it.
            self.alarms
                .raise(Alarm::Corrupt, "an older version is missing");
        }
        found
    }

    async fn txn(&self, txn: Txn, durability: Durability) -> Result<TxnResponse> {
        txn.check(&self.limits)?;
        self.ask(|reply| Command::Txn {
            txn,
            durability,
            reply,
        })
        .await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        self.replica.watch(request)
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.ask(|reply| Command::Compact { revision, reply }).await
    }

    async fn swept(&self) -> Result<()> {
        let first = || {
            self.replica
                .dead(&self.replica.snapshot(), 1)
                .first()
                .map(|dead| dead.id)
        };
        while let Some(before) = first() {
            self.ask(|reply| Command::Sweep { reply }).await?;
            if first() == Some(before) {
                let why = "what was compacted cannot be taken away now";
                return Err(Error::Io(why.to_owned()));
            }
        }
        Ok(())
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus> {
        self.ask(|reply| Command::LeaseGrant { id, ttl, reply })
            .await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision> {
        self.ask(|reply| Command::LeaseRevoke { id, reply }).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration> {
        self.times.keep_alive(id)
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus> {
        let state = self.replica.snapshot();
        let lease = state.lease(id).ok_or(Error::LeaseNotFound)?;
        let remaining = self.times.remaining(id).ok_or(Error::LeaseNotFound)?;
        Ok(LeaseStatus {
            id,
            granted_ttl: lease.ttl,
            remaining,
            keys: state.lease_keys(id),
        })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>> {
        Ok(self.times.ids())
    }

    async fn status(&self) -> Result<Status> {
        let state = self.replica.snapshot();
        let (readers, path) = (Arc::clone(&self.readers), self.path.clone());
        let sizes = env::spawn_blocking(move || {
            let log = schema::log_bytes(&path);
            readers
                .with(|connection| schema::sizes(connection).map_err(|error| kv_error(&error)))
                .map(|sizes| (log, sizes))
        });
        let (log, (all, free)) = sizes
            .await
            .map_err(|error| Error::Io(error.to_string()))??;
        Ok(Status {
            revision: state.revision(),
            compact_revision: state.compact_revision(),
            size_bytes: all + log,
            size_in_use_bytes: all - free,
            keys: state.keys(),
        })
    }

    async fn hash_kv(&self, revision: Option<Revision>) -> Result<HashKv> {
        self.replica.hash_kv(revision).await
    }

    async fn defragment(&self) -> Result<()> {
        self.vacuum().await
    }

    async fn snapshot(&self) -> Result<fs::File> {
        let source = self.path.clone();
        let copied = env::spawn_blocking(move || copy_to_nameless(&source));
        copied
            .await
            .map_err(|error| Error::Io(error.to_string()))?
            .map_err(|error| Error::Io(error.to_string()))
    }

    fn current_revision(&self) -> Revision {
        self.replica.snapshot().revision()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.raised()
    }

    async fn raise_alarm(&self, alarm: Alarm) -> Result<()> {
        self.alarms.raise(alarm, "somebody raised it");
        Ok(())
    }

    async fn clear_alarm(&self, alarm: Alarm) -> Result<bool> {
        let was_raised = self.alarms.clear(alarm);
        // What was left undone meanwhile is due.
        self.queue.ring();
        Ok(was_raised)
    }

    fn commit_times(&self) -> Option<CommitTimes> {
        Some(self.counters.commit_times())
    }

    fn quota_bytes(&self) -> Option<u64> {
        self.quota_bytes
    }
}

/// The versions that are not sealed with the newest key of their prefix.
fn stale_rows(connection: &Connection, sealers: &Sealers) -> Result<Vec<i64>> {
    let mut stale = Vec::new();
    each_seal(connection, sealers, |id, is, wanted| {
        if is != wanted {
            stale.push(id);
        }
    })?;
    Ok(stale)
}

fn count_seals(connection: &Connection, sealers: &Sealers) -> Result<Seals> {
    let mut seals = Seals::default();
    each_seal(connection, sealers, |_, is, wanted| match (is, wanted) {
        (Some(key_id), _) => *seals.by_key.entry(key_id).or_default() += 1,
        (None, Some(_)) => seals.unsealed += 1,
        (None, None) => {}
    })?;
    Ok(seals)
}

/// Tells of every version with a value its row, the key that sealed it, and the one that would now.
fn each_seal(
    connection: &Connection,
    sealers: &Sealers,
    mut tell: impl FnMut(i64, Option<i64>, Option<i64>),
) -> Result<()> {
    let mut read = || {
        let mut statement = connection.prepare(row::SELECT_SEALS)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let key = row.get_ref(1)?.as_blob().unwrap_or_default();
            let wanted = sealers.for_key(key).map(Sealer::key_id);
            tell(row.get(0)?, row.get(2)?, wanted);
        }
        Ok(())
    };
    read().map_err(|error| kv_error(&error))
}

/// Copies beside the store: that is where there is space for it, if there is any.
fn copy_to_nameless(source: &Path) -> Result<fs::File, OpenError> {
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let mut name = source.as_os_str().to_owned();
    name.push(format!(".snapshot-{}-{number}", std::process::id()));
    let target = PathBuf::from(name);
    let copied = copy_store(source, &target);
    let opened = copied.and_then(|_revision| {
        fs::File::open(&target).map_err(|source| OpenError::Io {
            path: target.clone(),
            source,
        })
    });
    // Also when it failed: a part of a copy is worth nothing.
    let _gone = fs::remove_file(&target);
    opened
}

//! Makes a batch durable: one transaction, one flush. Behind a trait, so that another form of log can take its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv::{Change, Dead, LeaseId};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::checkpoint::{Checkpointer, checkpoint};
use crate::counters::Counters;
use crate::error::kv_error;
use crate::row::{self, ReadError};
use crate::schema::{self, meta};
use crate::seal::{self, Rows};
use crate::sealer::Sealers;

/// Pages in the log (4 KiB each) from which on they are moved into the database beside the writer.
const CHECKPOINT_PAGES: i64 = 1024;
/// So few pages that a pass left behind are moved by the writer itself, because under steady load nobody else can finish: the log then begins anew.
const LAST_PAGES_MAX: i64 = 128;
/// Pages in the log at which the writer moves whatever is left.
const LOG_PAGES_MAX: i64 = 4096;
/// How many pages more it writes before it tries again, if a reader is in the way.
const LOG_PAGES_RETRY: i64 = 1024;
/// How long the writer lets readers finish before it puts that off.
const RESTART_PATIENCE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub(crate) enum LeaseWrite {
    Grant { id: LeaseId, ttl: Duration },
    Revoke { id: LeaseId },
}

/// What becomes durable together.
#[derive(Debug)]
pub(crate) struct WriteSet<'a> {
    /// In the order of ids, first the changes that were only in memory so far.
    pub(crate) changes: [&'a [Change]; 2],
    pub(crate) leases: &'a [LeaseWrite],
    pub(crate) dead: &'a [Dead],
    pub(crate) facts: &'a [(&'static str, i64)],
}

/// Work on the file that changes no key, no value and no revision.
#[derive(Debug)]
pub(crate) enum Maintenance {
    /// Seals these rows anew, those of them that are still there.
    Reseal(Vec<i64>),
    /// Writes the file anew, without what is free in it.
    Vacuum,
}

pub(crate) trait Committer: Send {
    /// All of it is on stable storage afterwards, or nothing of it.
    fn commit(&mut self, set: &WriteSet<'_>) -> kv::Result<()>;

    /// How long the disk took of the last commit.
    fn last_flush(&self) -> Duration {
        Duration::ZERO
    }

    /// Does what leaves the contents as they are; tells how many rows it wrote.
    fn maintain(&mut self, work: &Maintenance) -> kv::Result<usize>;

    /// Bytes of the pages that hold something.
    fn used_bytes(&mut self) -> kv::Result<u64>;

    /// Gives back the memory that a burst of writes took.
    fn trim(&mut self);

    /// Leaves the file in order.
    fn close(self: Box<Self>);
}

pub(crate) struct SqliteCommitter {
    connection: Connection,
    path: PathBuf,
    sealers: Arc<Sealers>,
    checkpointer: Checkpointer,
    counters: Arc<Counters>,
    /// Those that are in the file.
    rows: Rows,
    /// The writer does not try again to finish the checkpoint before the log has so many pages: if it did not begin anew, a reader is in the way.
    not_before: i64,
    last_flush: Duration,
}

impl SqliteCommitter {
    pub(crate) fn new(
        mut connection: Connection,
        path: &Path,
        (sealers, rows): (Arc<Sealers>, Rows),
        counters: Arc<Counters>,
    ) -> rusqlite::Result<Self> {
        schema::prepare_for_writing(&connection, path)?;
        let counter = Arc::clone(&counters);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            counter.log_is(i64::from(pages));
            Ok(())
        }))?;
        let checkpointer = Checkpointer::start(path)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            sealers,
            checkpointer,
            counters,
            rows,
            not_before: 0,
            last_flush: Duration::ZERO,
        })
    }

    fn write(&mut self, set: &WriteSet<'_>) -> rusqlite::Result<()> {
        let begun = Begun::new(&self.connection)?;
        let transaction = begun.0;
        let mut rows = self.rows;
        {
            let mut insert = transaction.prepare_cached(row::INSERT)?;
            for change in set.changes.into_iter().flatten() {
                row::insert(&mut insert, change, &self.sealers)?;
                rows.add(change.id.0);
            }
            for lease in set.leases {
                write_lease(transaction, *lease)?;
            }
            let mut delete = transaction.prepare_cached(row::DELETE)?;
            for dead in set.dead {
                if delete.execute([dead.id.0])? > 0 {
                    rows.remove(dead.id.0);
                }
            }
            for (name, value) in set.facts {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO meta(k, v) VALUES(?1, ?2)")?
                    .execute(params![name, value])?;
            }
        }
        if set.facts.contains(&(meta::CLEAN_SHUTDOWN, meta::SEALED)) {
            seal::write(transaction, rows)?;
        }
        let flushing = Instant::now();
        begun.commit()?;
        self.last_flush = flushing.elapsed();
        self.rows = rows;
        Ok(())
    }

    fn reseal(&mut self, rows: &[i64]) -> Result<usize, ReadError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut written = 0;
        {
            let mut select = transaction.prepare_cached(row::SELECT_ONE)?;
            let mut delete = transaction.prepare_cached(row::DELETE)?;
            let mut insert = transaction.prepare_cached(row::INSERT)?;
            for id in rows {
                let mut found = select.query([id])?;
                let Some(row) = found.next()? else { continue };
                let (id, key, entry) = row::read(row, &self.sealers)?;
                drop(found);
                delete.execute([id.0])?;
                row::insert_version(&mut insert, (id, &key, entry.as_deref()), &self.sealers)?;
                written += 1;
            }
        }
        transaction.commit()?;
        Ok(written)
    }

    fn vacuum(&self) -> rusqlite::Result<()> {
        let _alone = self.checkpointer.pause();
        // A second copy of everything has no place in memory.
        self.connection.pragma_update(None, "temp_store", "FILE")?;
        let done = self.connection.execute_batch("VACUUM");
        self.connection
            .pragma_update(None, "temp_store", "MEMORY")?;
        done?;
        schema::shorten_log(&self.connection, &self.path)
    }

    /// Keeps the log within its bounds.
    fn tend_log(&mut self) {
        let pages = self.counters.log_pages();
        if pages < CHECKPOINT_PAGES {
            self.not_before = 0;
            return self.checkpointer.forget_moved();
        }
        let is_last = pages - self.checkpointer.moved() <= LAST_PAGES_MAX;
        if !is_last && pages < LOG_PAGES_MAX {
            self.checkpointer.ring();
        } else if pages >= self.not_before {
            self.finish_checkpoint(pages);
            self.not_before = pages + LOG_PAGES_RETRY;
        }
    }

    /// Moves the rest of the log into the database, so that the next write begins it anew if no reader is in the way.
    fn finish_checkpoint(&self, pages: i64) {
        let _alone = self.checkpointer.pause();
        if pages < LOG_PAGES_MAX {
            let _whatever_is_left_is_done_next_time = checkpoint(&self.connection, "PASSIVE");
        } else if self.connection.busy_timeout(RESTART_PATIENCE).is_ok() {
            let _whatever_is_left_is_done_next_time = checkpoint(&self.connection, "RESTART");
            let _same_value_as_at_open = self.connection.busy_timeout(schema::BUSY);
        }
    }
}

/// A transaction whose ends are prepared once and not for each batch; dropped before its end, it is taken back.
struct Begun<'a>(&'a Connection);

impl<'a> Begun<'a> {
    fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            // What fails here fails again at the next BEGIN, and is told there.
            let _told_there = self.0.execute_batch("ROLLBACK");
        }
    }
}

fn write_lease(connection: &Connection, lease: LeaseWrite) -> rusqlite::Result<()> {
    match lease {
        LeaseWrite::Grant { id, ttl } => {
            let milliseconds = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
            connection
                .prepare_cached("INSERT OR REPLACE INTO lease(id, ttl) VALUES(?1, ?2)")?
                .execute(params![id, milliseconds])?;
        }
        LeaseWrite::Revoke { id } => {
            connection
                .prepare_cached("DELETE FROM lease WHERE id = ?1")?
                .execute([id])?;
        }
    }
    Ok(())
}

impl Committer for SqliteCommitter {
    fn commit(&mut self, set: &WriteSet<'_>) -> kv::Result<()> {
        match self.write(set) {
            Ok(()) => {
                self.tend_log();
                Ok(())
            }
            Err(error) => {
                // A full disk may have kept the log from being moved; perhaps there is space again.
                self.checkpointer.ring();
                Err(kv_error(&error))
            }
        }
    }

    fn last_flush(&self) -> Duration {
        self.last_flush
    }

    fn maintain(&mut self, work: &Maintenance) -> kv::Result<usize> {
        let done = match work {
            Maintenance::Reseal(rows) => self.reseal(rows),
            Maintenance::Vacuum => self.vacuum().map(|()| 0).map_err(ReadError::from),
        };
        self.tend_log();
        done.map_err(|error| match error {
            ReadError::Sqlite(error) => kv_error(&error),
            ReadError::Row { id, key, problem } => {
                tracing::error!(row = id.0, key, %problem, "the store is damaged");
                kv::Error::Corrupt
            }
        })
    }

    fn used_bytes(&mut self) -> kv::Result<u64> {
        let sizes = schema::sizes(&self.connection).map_err(|error| kv_error(&error))?;
        Ok(sizes.0 - sizes.1)
    }

    fn trim(&mut self) {
        if let Err(error) = self.connection.release_memory() {
            tracing::debug!(%error, "the store's page cache keeps its memory");
        }
    }

    fn close(self: Box<Self>) {
        let Self {
            connection,
            checkpointer,
            ..
        } = *self;
        drop(checkpointer);
        // What is not moved now is found in the log when the store is opened.
        let _done = checkpoint(&connection, "RESTART");
    }
}

//! Moves pages from the log into the database beside the writer, on a connection and a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;

use crate::schema;

/// Waits for a ring, checkpoints, waits again; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    bell: Option<SyncSender<()>>,
    pass: Arc<Pass>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Pass {
    /// Held while a checkpoint runs: `SQLite` refuses a second one instead of waiting.
    running: Mutex<()>,
    /// A pass is asked for and not done yet.
    asked: AtomicBool,
    /// Pages of the log that the last pass left in the database.
    moved: AtomicI64,
}

impl Checkpointer {
    pub(crate) fn start(path: &Path) -> rusqlite::Result<Self> {
        let connection = schema::open_second(path)?;
        // One ring that waits says as much as many.
        let (bell, rings) = sync_channel(1);
        let pass = Arc::new(Pass::default());
        let this = Arc::clone(&pass);
        let work = move || {
            let mut failing = false;
            for () in rings {
                let _alone = this.running.lock();
                let done = checkpoint(&connection, "PASSIVE");
                this.asked.store(false, Ordering::Release);
                match done {
                    Ok(moved) => {
                        failing = false;
                        this.moved.store(moved, Ordering::Release);
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut failing, true) {
                            tracing::warn!(%error, "the store's log grows until it can be moved into the database");
                        }
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(work);
        let thread = thread.expect("a thread can be started while the process starts");
        Ok(Self {
            bell: Some(bell),
            pass,
            thread: Some(thread),
        })
    }

    /// Keeps checkpoints off while the guard lives, after the one that runs.
    pub(crate) fn pause(&self) -> MutexGuard<'_, ()> {
        self.pass.running.lock()
    }

    /// Asks for a pass, unless one is under way: what is written meanwhile is for the next.
    pub(crate) fn ring(&self) {
        if let Some(bell) = &self.bell
            && !self.pass.asked.swap(true, Ordering::AcqRel)
        {
            // A full queue means that a ring waits already.
            let _full = bell.try_send(());
        }
    }

    /// Pages of the log that are known to be in the database.
    pub(crate) fn moved(&self) -> i64 {
        self.pass.moved.load(Ordering::Acquire)
    }

    /// The log began anew: nothing of it is in the database.
    pub(crate) fn forget_moved(&self) {
        self.pass.moved.store(0, Ordering::Release);
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.bell.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Checkpoints as far as readers allow; whatever is left is done next time. Tells how many pages of the log are in the database.
pub(crate) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        row.get(2)
    })
}

//! Moves pages from the log into the database beside the writer, on a connection and a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;

use crate::schema;

/// Waits for a ring, checkpoints, waits again; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    bell: Option<SyncSender<()>>,
    /// Held while a checkpoint runs: `SQLite` refuses a second one instead of waiting.
    running: Arc<Mutex<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(crate) fn start(path: &Path) -> rusqlite::Result<Self> {
        let connection = schema::open_second(path)?;
        // One ring that waits says as much as many.
        let (bell, rings) = sync_channel(1);
        let running = Arc::new(Mutex::new(()));
        let alone = Arc::clone(&running);
        let work = move || {
            let mut failing = false;
            for () in rings {
                let _alone = alone.lock();
                match checkpoint(&connection, "PASSIVE") {
                    Ok(_) => failing = false,
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
            running,
            thread: Some(thread),
        })
    }

    /// Keeps checkpoints off while the guard lives, after the one that runs.
    pub(crate) fn pause(&self) -> MutexGuard<'_, ()> {
        self.running.lock()
    }

    pub(crate) fn ring(&self) {
        if let Some(bell) = &self.bell {
            // A full queue means that a ring waits already.
            let _full = bell.try_send(());
        }
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

/// Checkpoints as far as readers allow; whatever is left is done next time. Tells whether all of the log was done.
pub(crate) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<bool> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        let (busy, log, done): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && log == done)
    })
}

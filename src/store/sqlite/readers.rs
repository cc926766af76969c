//! Reads superseded values by their row. Every read is a transaction of its own and short, so that no reader keeps the log from being reused.

use std::path::PathBuf;
use std::sync::Arc;

use kv::{Alarm, Entry, ReadHistory, VersionId};
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use crate::alarms::Alarms;
use crate::error::kv_error;
use crate::row::{self, ReadError};
use crate::schema;
use crate::sealer::Sealers;

/// Connections that read history at once.
const READERS_MAX: usize = 4;
/// Connections that are kept while nobody reads.
const READERS_IDLE_MAX: usize = 1;

#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    sealers: Arc<Sealers>,
    alarms: Arc<Alarms>,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Connection>,
    lent: usize,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, sealers: Arc<Sealers>, alarms: Arc<Alarms>) -> Self {
        Self {
            path,
            sealers,
            alarms,
            pool: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Runs `read` on a connection of its own.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Connection) -> kv::Result<T>) -> kv::Result<T> {
        let idle = {
            let mut pool = self.pool.lock();
            while pool.lent >= READERS_MAX {
                self.returned.wait(&mut pool);
            }
            pool.lent += 1;
            pool.idle.pop()
        };
        let connection = match idle {
            Some(connection) => Ok(connection),
            None => schema::open_second(&self.path),
        };
        let answer = match &connection {
            Ok(connection) => read(connection),
            Err(error) => Err(kv_error(error)),
        };
        let mut pool = self.pool.lock();
        pool.lent -= 1;
        if let Ok(connection) = connection
            && pool.idle.len() < READERS_IDLE_MAX
        {
            pool.idle.push(connection);
        }
        self.returned.notify_one();
        answer
    }

    /// Closes the connections that nobody uses.
    pub(crate) fn close(&self) {
        self.pool.lock().idle.clear();
    }

    fn entry(&self, connection: &Connection, id: VersionId) -> Result<Arc<Entry>, ReadError> {
        let mut statement = connection.prepare_cached(row::SELECT_ONE)?;
        let mut rows = statement.query([id.0])?;
        let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let (_, _, entry) = row::read(row, &self.sealers)?;
        Ok(entry.ok_or(rusqlite::Error::QueryReturnedNoRows)?)
    }
}

impl ReadHistory for Readers {
    fn read(&self, wanted: &[(VersionId, Arc<[u8]>)]) -> kv::Result<Vec<Arc<Entry>>> {
        self.with(|connection| {
            wanted
                .iter()
                .map(|(id, _)| match self.entry(connection, *id) {
                    Ok(entry) => Ok(entry),
                    // The caller knows whether a compaction took the row meanwhile.
                    Err(ReadError::Sqlite(rusqlite::Error::QueryReturnedNoRows)) => {
                        Err(kv::Error::Corrupt)
                    }
                    Err(ReadError::Sqlite(error)) => {
                        self.alarms.note("read an older version", &error);
                        Err(kv_error(&error))
                    }
                    Err(ReadError::Row { id, key, problem }) => {
                        let why = format!("row {} (key {key:?}): {problem}", id.0);
                        self.alarms.raise(Alarm::Corrupt, &why);
                        Err(kv::Error::Corrupt)
                    }
                })
                .collect()
        })
    }
}

//! A store made of what another one held.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use kv::{Entry, Revision, VersionId};
use rusqlite::{TransactionBehavior, params};

use crate::error::OpenError;
use crate::row;
use crate::schema::{self, meta};
use crate::sealer::{SealedPrefix, Sealers};

/// Rows that become durable together.
const BATCH_ROWS: usize = 2000;

/// The newest version of a key; leases stay behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: i64,
}

/// Makes a new store at `path` that stands at `revision` and has no history. Each entry is of a revision of its own, in
/// ascending order, none above `revision`.
pub fn import_store(
    path: &Path,
    sealers: Vec<SealedPrefix>,
    entries: &[Imported],
    revision: Revision,
) -> Result<(), OpenError> {
    if path.exists() {
        return Err(OpenError::Io {
            path: path.to_owned(),
            source: std::io::ErrorKind::AlreadyExists.into(),
        });
    }
    let sealers = Sealers::new(sealers);
    let mut connection = schema::open_writer(path)?;
    let mut write = || {
        for batch in entries.chunks(BATCH_ROWS) {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut insert = transaction.prepare_cached(row::INSERT)?;
            for imported in batch {
                let entry = entry(imported);
                let id = VersionId::new(imported.mod_revision, 0);
                row::insert_version(&mut insert, (id, &entry.key, Some(&entry)), &sealers)?;
            }
            drop(insert);
            transaction.commit()?;
        }
        for (name, value) in [
            (meta::COMPACT_REVISION, revision),
            (meta::CLEAN_SHUTDOWN, meta::CLEAN),
        ] {
            connection.execute(
                "INSERT OR REPLACE INTO meta(k, v) VALUES(?1, ?2)",
                params![name, value],
            )?;
        }
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_row| Ok(()))
    };
    write().map_err(OpenError::sqlite(path, "import into"))
}

fn entry(imported: &Imported) -> Entry {
    Entry {
        key: Arc::from(imported.key.as_slice()),
        value: Arc::from(imported.value.as_slice()),
        create_revision: imported.create_revision,
        mod_revision: imported.mod_revision,
        version: imported.version,
        lease: 0,
        memo: OnceLock::new(),
    }
}

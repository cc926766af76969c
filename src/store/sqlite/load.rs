//! Reads a store into memory: the newest value of every key, the ids of older versions, the leases, and where it stopped.

use std::path::Path;
use std::time::Duration;

use kv::{FIRST_REVISION, Loaded, Loader, Revision};
use rusqlite::{Connection, OptionalExtension};

use crate::error::{OpenError, RowProblem};
use crate::row::{self, ReadError};
use crate::schema::meta;
use crate::seal::{self, Rows};
use crate::sealer::Sealers;

/// What was found on disk.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) loaded: Loaded,
    /// Relaxed writes up to this revision may be lost: the state stands at it already, and the disk has to say so before anything else is written.
    pub(crate) jump_to: Option<Revision>,
    pub(crate) rows: Rows,
    /// Nobody wrote down that everything was in order at the last stop.
    pub(crate) is_unclean: bool,
}

pub(crate) fn load(
    connection: &Connection,
    path: &Path,
    sealers: &Sealers,
) -> Result<Opened, OpenError> {
    let failed = |error| OpenError::reading(path, "read the store's facts")(error);
    let mut loader = Loader::default();
    load_leases(connection, &mut loader).map_err(OpenError::reading(path, "read the leases"))?;
    let rows = load_log(connection, &mut loader, sealers).map_err(|error| match error {
        ReadError::Sqlite(source) => OpenError::reading(path, "read the log")(source),
        ReadError::Row { id, key, problem } => OpenError::DamagedRow {
            path: path.to_owned(),
            row: id,
            key,
            problem,
        },
    })?;
    let compact_revision = fact(connection, meta::COMPACT_REVISION).map_err(failed)?;
    let watermark = fact(connection, meta::REVISION_WATERMARK)
        .map_err(failed)?
        .unwrap_or(0);
    let clean = fact(connection, meta::CLEAN_SHUTDOWN).map_err(failed)? != Some(0);
    if !seal::holds(connection, rows).map_err(failed)? {
        return Err(OpenError::Damaged {
            path: path.to_owned(),
            problem: "what is in it is not what was in it at the last stop".to_owned(),
        });
    }
    // The revision never falls below the compacted one, whatever is left in the log (etcd#17780).
    let revision = loader
        .revision()
        .max(compact_revision.unwrap_or(FIRST_REVISION));
    // Relaxed writes may have used revisions up to the watermark without being on disk. No revision is used twice, so go on behind it.
    let jump_to = Some(watermark).filter(|watermark| !clean && *watermark > revision);
    if !clean {
        tracing::info!(
            revision,
            jump_to,
            "the store was not closed cleanly; every row was checked"
        );
    }
    let compact_revision = jump_to.or(compact_revision).unwrap_or(-1);
    Ok(Opened {
        loaded: loader.finish(jump_to.unwrap_or(revision), compact_revision),
        jump_to,
        rows,
        is_unclean: !clean,
    })
}

pub(crate) fn fact(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .query_row("SELECT v FROM meta WHERE k = ?1", [name], |row| row.get(0))
        .optional()
}

fn load_leases(connection: &Connection, loader: &mut Loader) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id, ttl FROM lease ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        loader.lease(
            row.get(0)?,
            Duration::from_millis(row.get::<_, i64>(1)?.unsigned_abs()),
        );
    }
    Ok(())
}

fn load_log(
    connection: &Connection,
    loader: &mut Loader,
    sealers: &Sealers,
) -> Result<Rows, ReadError> {
    let mut statement = connection.prepare(row::SELECT_ALL)?;
    let mut found = statement.query([])?;
    let (mut rows, mut last) = (Rows::default(), None);
    while let Some(row) = found.next()? {
        let (id, key, entry) = row::read(row, sealers)?;
        if last.replace(id).is_some_and(|last| last >= id) {
            return Err(ReadError::Row {
                id,
                key: String::from_utf8_lossy(&key).into_owned(),
                problem: RowProblem::Order,
            });
        }
        rows.add(id.0);
        loader.version(id, key, entry);
    }
    Ok(rows)
}

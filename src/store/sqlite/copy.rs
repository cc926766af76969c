//! Work on the file of a store beside whoever has it open, also from another process: a copy of one moment, a check of
//! everything, and the marks that a copy gets before it is opened in the original's place.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use kv::{FIRST_REVISION, Revision, VersionId};
use rusqlite::{Connection, params};

use crate::error::OpenError;
use crate::load::fact;
use crate::row::{self, ReadError};
use crate::schema::{self, meta};
use crate::sealer::{SealedPrefix, Sealers};

/// How far the revisions of a restored store stand above those of the copy, so that none is used twice: more than what
/// the original can have written since.
pub const RESTORE_STEP: Revision = 1_000_000_000;
/// A store with more damage is not described to its end.
const PROBLEMS_MAX: usize = 20;

/// What [`check_store`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub revision: Revision,
    pub compact_revision: Option<Revision>,
    /// Keys that are there now.
    pub keys: usize,
    /// Versions of keys, old ones and deletions among them.
    pub rows: u64,
    /// How many values each sealing key sealed.
    pub sealed: BTreeMap<i64, u64>,
    /// At most a few, in words; none in a store that is whole.
    pub problems: Vec<String>,
    /// Bytes of the database, and how many of them are free.
    pub bytes: u64,
    pub free_bytes: u64,
    /// Bytes of the write-ahead log.
    pub log_bytes: u64,
}

/// Writes what the store at `source` holds at this moment to a new file, durably and without what is free in it, and
/// tells its revision. Writers go on meanwhile.
pub fn copy_store(source: &Path, target: &Path) -> Result<Revision, OpenError> {
    let connection = open_beside(source)?;
    let failed = |source| OpenError::Io {
        path: target.to_owned(),
        source,
    };
    // SQLite fills an empty file; this one is private from the beginning.
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(failed)?;
    let name = target.to_str().ok_or_else(|| {
        let why = "the path of a copy must be UTF-8";
        failed(io::Error::new(io::ErrorKind::InvalidInput, why))
    })?;
    connection
        .execute("VACUUM INTO ?1", [name])
        .map_err(OpenError::sqlite(source, "copy what is"))?;
    fs::File::open(target)
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    let copy = open_copy(target)?;
    revision(&copy).map_err(OpenError::sqlite(target, "read the revision"))
}

/// Marks a copy so that the store that opens it counts everything up to its revision and [`RESTORE_STEP`] more as
/// forgotten: whoever saw the original after the copy was made has to read anew.
pub fn mark_restored(copy: &Path) -> Result<(), OpenError> {
    let connection = open_copy(copy)?;
    let mark = || {
        let watermark = revision(&connection)? + RESTORE_STEP;
        let transaction = connection.unchecked_transaction()?;
        for (name, value) in [
            (meta::REVISION_WATERMARK, watermark),
            (meta::CLEAN_SHUTDOWN, 0),
        ] {
            transaction.execute(
                "INSERT OR REPLACE INTO meta(k, v) VALUES(?1, ?2)",
                params![name, value],
            )?;
        }
        transaction.commit()
    };
    mark().map_err(OpenError::sqlite(copy, "mark the copy"))
}

/// Reads all of a store: its pages, the checksum of every row, and whether every sealed value opens. Writers go on
/// meanwhile.
pub fn check_store(path: &Path, sealers: Vec<SealedPrefix>) -> Result<Checked, OpenError> {
    check(&open_beside(path)?, path, sealers)
}

/// The same of a copy; it stays one file.
pub fn check_copy(path: &Path, sealers: Vec<SealedPrefix>) -> Result<Checked, OpenError> {
    check(&open_copy(path)?, path, sealers)
}

fn check(
    connection: &Connection,
    path: &Path,
    sealers: Vec<SealedPrefix>,
) -> Result<Checked, OpenError> {
    let sealers = Sealers::new(sealers);
    let read = || {
        // One moment for all of it.
        let moment = connection.unchecked_transaction()?;
        let mut checked = Checked {
            revision: revision(&moment)?,
            compact_revision: fact(&moment, meta::COMPACT_REVISION)?,
            log_bytes: schema::log_bytes(path),
            problems: pages(&moment)?,
            ..Checked::default()
        };
        (checked.bytes, checked.free_bytes) = schema::sizes(&moment)?;
        rows(&moment, &sealers, &mut checked)?;
        Ok(checked)
    };
    read().map_err(OpenError::sqlite(path, "check what is"))
}

fn pages(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({PROBLEMS_MAX})"))?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    let lines: rusqlite::Result<Vec<String>> = lines.collect();
    Ok(lines?.into_iter().filter(|line| line != "ok").collect())
}

fn rows(connection: &Connection, sealers: &Sealers, into: &mut Checked) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(row::SELECT_ALL)?;
    let mut rows = statement.query([])?;
    let mut keys: HashSet<Arc<[u8]>> = HashSet::new();
    while let Some(found) = rows.next()? {
        into.rows += 1;
        if let Some(key_id) = found.get::<_, Option<i64>>(6)? {
            *into.sealed.entry(key_id).or_default() += 1;
        }
        match row::read(found, sealers) {
            Ok((_, key, Some(_))) => drop(keys.insert(key)),
            Ok((_, key, None)) => drop(keys.remove(&key)),
            Err(ReadError::Sqlite(error)) => return Err(error),
            Err(ReadError::Row { id, key, problem }) => {
                if into.problems.len() < PROBLEMS_MAX {
                    let revision = id.revision();
                    into.problems.push(format!(
                        "row {} (revision {revision}, key {key:?}): {problem}",
                        id.0
                    ));
                }
            }
        }
    }
    into.keys = keys.len();
    Ok(())
}

/// As it is when the store is opened next.
fn revision(connection: &Connection) -> rusqlite::Result<Revision> {
    let newest: Option<i64> =
        connection.query_row("SELECT max(id) FROM log", [], |row| row.get(0))?;
    let newest = newest.map_or(FIRST_REVISION, |id| VersionId(id).revision());
    let compacted = fact(connection, meta::COMPACT_REVISION)?.unwrap_or(FIRST_REVISION);
    let watermark = match fact(connection, meta::CLEAN_SHUTDOWN)? {
        Some(0) => fact(connection, meta::REVISION_WATERMARK)?.unwrap_or(0),
        _ => 0,
    };
    Ok(newest.max(compacted).max(watermark))
}

fn open_beside(path: &Path) -> Result<Connection, OpenError> {
    let connection =
        schema::open_second(path).map_err(OpenError::sqlite(path, "open the database"))?;
    schema::check_format(&connection, path)?;
    Ok(connection)
}

/// A file that nobody else has open, with nothing beside it afterwards.
fn open_copy(path: &Path) -> Result<Connection, OpenError> {
    let connection =
        Connection::open(path).map_err(OpenError::sqlite(path, "open the database"))?;
    schema::check_format(&connection, path)?;
    connection
        .query_row("PRAGMA journal_mode=DELETE", [], |_row| Ok(()))
        .map_err(OpenError::sqlite(path, "configure the database"))?;
    Ok(connection)
}

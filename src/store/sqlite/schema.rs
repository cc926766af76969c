//! The file: its tables, its settings, and which formats this program reads.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use crate::error::OpenError;

/// `Cmbo`: marks the file as a store of this program.
const APPLICATION_ID: i64 = 0x436d_626f;
/// The newest format, and the only one so far.
pub(crate) const FORMAT: i64 = 1;
/// How long the write-ahead log is made before the first write. A log that grows costs two flushes for each write instead of one.
pub(crate) const LOG_BYTES_PREGROWN: u64 = 8 << 20;
/// How long a connection waits for another one's lock. There is one writer, so only a checkpoint or a tool can hold it.
pub(crate) const BUSY: Duration = Duration::from_secs(5);
/// The writer's cache; a transaction that does not fit is written twice.
const WRITER_CACHE_KIB: i64 = 16 << 10;
const READER_CACHE_KIB: i64 = 512;

const TABLES: &str = "
CREATE TABLE log(
  id INTEGER PRIMARY KEY, key BLOB NOT NULL, kind INTEGER NOT NULL,
  create_rev INTEGER, version INTEGER, lease INTEGER, key_id INTEGER, crc INTEGER NOT NULL, value BLOB);
CREATE TABLE lease(id INTEGER PRIMARY KEY, ttl INTEGER, remaining INTEGER, ckpt_unix INTEGER);
CREATE TABLE meta(k TEXT PRIMARY KEY, v) WITHOUT ROWID;";

/// Facts that the table `meta` keeps.
pub(crate) mod meta {
    pub(crate) const COMPACT_REVISION: &str = "compact_rev";
    /// Relaxed writes may have been acknowledged up to this revision without being on disk.
    pub(crate) const REVISION_WATERMARK: &str = "rev_watermark";
    /// 0 from the first write on; [`CLEAN`] or [`SEALED`] after a clean stop.
    pub(crate) const CLEAN_SHUTDOWN: &str = "clean_shutdown";
    pub(crate) const CLEAN: i64 = 1;
    /// [`SEAL`] is that of everything in the file.
    pub(crate) const SEALED: i64 = 2;
    pub(crate) const SEAL: &str = "seal";
}

/// Opens the file for the one writer, and makes it if it is not there.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    // The log and its index inherit the file's mode.
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        })?;
    let connection = connect(path).map_err(OpenError::reading(path, "open the database"))?;
    let empty = is_empty(&connection).map_err(OpenError::reading(path, "read the tables"))?;
    if !empty {
        check_format(&connection, path)?;
    }
    // Only now: the settings change a file, and it might be somebody else's.
    configure(&connection).map_err(OpenError::reading(path, "configure the database"))?;
    if empty {
        create(&connection).map_err(OpenError::sqlite(path, "create the tables"))?;
    }
    Ok(connection)
}

/// Another connection to a store that is open.
pub(crate) fn open_second(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    configure(&connection)?;
    Ok(connection)
}

/// Gives the writer's connection what it needs once everything is loaded.
pub(crate) fn prepare_for_writing(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    if log_bytes(path) < LOG_BYTES_PREGROWN {
        // With nothing left in the log, it can be cut off again where there is no space for it.
        let truncate =
            || connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_row| Ok(()));
        truncate()?;
        if let Err(error) = grow_log(connection) {
            // The store works without it, only slower; a full disk says so at the first write.
            tracing::warn!(%error, "the store's write-ahead log cannot be made in advance");
            truncate()?;
        }
    }
    set_cache(connection, WRITER_CACHE_KIB)
}

/// Makes the log as long as at the start again, after something large went through it.
pub(crate) fn shorten_log(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_row| Ok(()))?;
    prepare_for_writing(connection, path)
}

/// The length of the write-ahead log's file.
pub(crate) fn log_bytes(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).map_or(0, |metadata| metadata.len())
}

/// Bytes of the database, and how many of them are free pages.
pub(crate) fn sizes(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let read = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let page = read("page_size")?;
    Ok((
        (read("page_count")? * page).unsigned_abs(),
        (read("freelist_count")? * page).unsigned_abs(),
    ))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    // Otherwise the last connection to close deletes the log, which then has to grow again.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA page_size=4096; PRAGMA auto_vacuum=NONE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=-1; PRAGMA cell_size_check=ON;
         PRAGMA trusted_schema=OFF; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY;",
    )?;
    set_cache(connection, READER_CACHE_KIB)
}

fn set_cache(connection: &Connection, kib: i64) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", -kib)
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
        row.get(0)
    })
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES}
         PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT}; COMMIT;"
    ))
}

pub(crate) fn check_format(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let read = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let failed = |error| OpenError::reading(path, "read the format")(error);
    if read("application_id").map_err(failed)? != APPLICATION_ID {
        return Err(OpenError::NotAStore {
            path: path.to_owned(),
        });
    }
    match read("user_version").map_err(failed)? {
        FORMAT => Ok(()),
        found => Err(OpenError::NewerFormat {
            path: path.to_owned(),
            found,
            known: FORMAT,
        }),
    }
}

/// Writes a scratch transaction through a small cache into the log and takes it back: the log keeps its length, the database does not change.
fn grow_log(connection: &Connection) -> rusqlite::Result<()> {
    set_cache(connection, 64)?;
    let scratch = || {
        connection.execute_batch("BEGIN IMMEDIATE; CREATE TABLE scratch(v BLOB);")?;
        connection.execute(
            "INSERT INTO scratch VALUES(zeroblob(?1))",
            params![LOG_BYTES_PREGROWN.cast_signed()],
        )
    };
    let grown = scratch();
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    grown.map(drop)
}

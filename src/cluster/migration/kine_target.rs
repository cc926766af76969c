//! A database as k3s keeps it, with one row for each object that is there.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use kv::Revision;
use rusqlite::{Connection, params};

use crate::contents::Row;
use crate::error::{Error, Result};
use crate::kine;

/// As kine makes it.
const SCHEMA: &str = "
CREATE TABLE kine (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, created INTEGER, deleted INTEGER,
  create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);
CREATE INDEX kine_name_index ON kine (name);
CREATE INDEX kine_name_id_index ON kine (name,id);
CREATE INDEX kine_id_deleted_index ON kine (id,deleted);
CREATE INDEX kine_prev_revision_index ON kine (prev_revision);
CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision);
CREATE INDEX kine_id_compact_rev_key_with_prev_revision_index ON kine(id, name, prev_revision)
  WHERE name != 'compact_rev_key' AND prev_revision != 0;";
const INSERT: &str = "
INSERT INTO kine(id, name, created, deleted, create_revision, prev_revision, lease, value, old_value)
VALUES(?1, ?2, ?3, ?4, 0, ?5, 0, ?6, NULL)";
/// What kine keeps in mind of compaction, in the column of the previous revision.
const COMPACTED: &str = "compact_rev_key";

/// Writes a new file, whose newest revision is `revision`, durably, and reads it again before it has its name.
pub(crate) fn write(path: &Path, rows: &[Row], revision: Revision) -> Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let written = write_and_compare(&unfinished, rows, revision).and_then(|()| {
        // A hard link never takes the place of another file.
        fs::hard_link(&unfinished, path).map_err(Error::file("write", path))
    });
    let removed = fs::remove_file(&unfinished).map_err(Error::file("remove", &unfinished));
    written.and(removed)
}

fn write_and_compare(path: &Path, rows: &[Row], revision: Revision) -> Result<()> {
    let failed = Error::file("write", path);
    // SQLite fills an empty file; this one is private from the beginning.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    fill(path, rows, revision).map_err(|error| Error::Write {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    compare(rows, kine::read(path)?.rows)
}

fn fill(path: &Path, rows: &[Row], revision: Revision) -> rusqlite::Result<()> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch(SCHEMA)?;
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare(INSERT)?;
        // Every object begins here: a row before it, which its column names, would be taken away by the next compaction, and
        // with it another object of that number.
        for row in rows {
            insert.execute(params![row.mod_revision, row.key, 1, 0, 0, row.value])?;
        }
        // Nothing before this moment can be watched.
        let free = free_number(rows);
        insert.execute(params![free, COMPACTED, 1, 0, revision, b""])?;
        let last = rows.last().map_or(free, |row| row.mod_revision.max(free));
        if last < revision {
            let gap = format!("gap-{revision}");
            insert.execute(params![revision, gap, 0, 1, 0, None::<&[u8]>])?;
        }
    }
    transaction.commit()
}

/// The first number that no row has.
fn free_number(rows: &[Row]) -> Revision {
    let mut free = 1;
    for row in rows {
        if row.mod_revision != free {
            break;
        }
        free += 1;
    }
    free
}

/// Whether all that was to be written is there, and nothing else.
pub(crate) fn compare(wanted: &[Row], found: Vec<Row>) -> Result<()> {
    let found = found.into_iter().filter(|row| row.key != COMPACTED);
    let mut found: BTreeMap<String, Vec<u8>> = found.map(|row| (row.key, row.value)).collect();
    for row in wanted {
        if found.remove(&row.key).as_ref() != Some(&row.value) {
            return Err(Error::Differs {
                key: row.key.clone(),
            });
        }
    }
    match found.into_keys().next() {
        Some(key) => Err(Error::Differs { key }),
        None => Ok(()),
    }
}

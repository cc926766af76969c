//! The database in which k3s keeps what it would keep in etcd: one table with a row for each version of a key.

use std::path::Path;

use kv::Revision;
use rusqlite::{Connection, OptionalExtension as _};

use crate::contents::{Contents, Row};
use crate::error::{Error, Result};

/// Newest rows that are no deletions. A row is the version whose number it has; `created` marks those that began a key.
const LIVE: &str = "
SELECT newest.id, newest.name, newest.value,
       CASE WHEN newest.created = 1 THEN newest.id ELSE newest.create_revision END AS began,
       (SELECT count(*) FROM kine AS older WHERE older.name = newest.name AND older.id <= newest.id
        AND older.id >= CASE WHEN newest.created = 1 THEN newest.id ELSE newest.create_revision END) AS versions,
       newest.lease
FROM kine AS newest
WHERE newest.id IN (SELECT max(id) FROM kine GROUP BY name) AND newest.deleted = 0
ORDER BY newest.id";

/// Reads a copy that nobody else has open.
pub(crate) fn read(path: &Path) -> Result<Contents> {
    let not_kine = |error: rusqlite::Error| Error::NotKine {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let connection = Connection::open(path).map_err(not_kine)?;
    let table = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'kine'";
    let tables: i64 = connection
        .query_row(table, [], |row| row.get(0))
        .map_err(not_kine)?;
    if tables == 0 {
        return Err(Error::NotKine {
            path: path.to_owned(),
            why: "it has no table kine".to_owned(),
        });
    }
    let whole: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(not_kine)?;
    if whole != "ok" {
        return Err(Error::Damaged {
            path: path.to_owned(),
            why: whole,
        });
    }
    let read = || {
        Ok(Contents {
            rows: rows(&connection)?,
            revision: revision(&connection)?,
        })
    };
    read().map_err(not_kine)
}

fn rows(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare(LIVE)?;
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let mod_revision = row.get(0)?;
        // The column is said to hold numbers, and holds texts.
        let key = String::from_utf8_lossy(row.get_ref(1)?.as_bytes().unwrap_or_default());
        let value = row.get_ref(2)?.as_bytes_or_null().unwrap_or_default();
        rows.push(Row {
            key: key.into_owned(),
            value: value.unwrap_or_default().to_vec(),
            create_revision: row.get::<_, Option<i64>>(3)?.unwrap_or(mod_revision),
            mod_revision,
            version: row.get::<_, i64>(4)?.max(1),
            is_leased: row
                .get::<_, Option<i64>>(5)?
                .is_some_and(|lease| lease != 0),
        });
    }
    Ok(rows)
}

/// Rows that were deleted last, and revisions that were compacted, count too.
fn revision(connection: &Connection) -> rusqlite::Result<Revision> {
    let newest: Option<i64> =
        connection.query_row("SELECT max(id) FROM kine", [], |row| row.get(0))?;
    let has_sequence: i64 = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'",
        [],
        |row| row.get(0),
    )?;
    let sequence: Option<i64> = if has_sequence == 0 {
        None
    } else {
        connection
            .query_row(
                "SELECT seq FROM sqlite_sequence WHERE name = 'kine'",
                [],
                |row| row.get(0),
            )
            .optional()?
    };
    Ok(newest.max(sequence).unwrap_or(1))
}

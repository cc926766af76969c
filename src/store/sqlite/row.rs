//! One row of the log: a version of a key as it is on disk, with a checksum over all of it, its value perhaps sealed.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use kv::{Change, Entry, VersionId};
use rusqlite::{Row, Statement, params};

use crate::error::RowProblem;
use crate::sealer::Sealers;

pub(crate) const INSERT: &str =
    "INSERT INTO log(id, key, kind, create_rev, version, lease, key_id, crc, value)
     VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
pub(crate) const SELECT_ALL: &str =
    "SELECT id, key, kind, create_rev, version, lease, key_id, crc, value FROM log ORDER BY id";
pub(crate) const SELECT_ONE: &str =
    "SELECT id, key, kind, create_rev, version, lease, key_id, crc, value FROM log WHERE id = ?1";
/// Who sealed what: tombstones have no value to seal.
pub(crate) const SELECT_SEALS: &str = "SELECT id, key, key_id FROM log WHERE kind = 0";
pub(crate) const DELETE: &str = "DELETE FROM log WHERE id = ?1";

const KIND_PUT: i64 = 0;
const KIND_TOMBSTONE: i64 = 1;

/// The columns under the checksum.
struct Columns<'a> {
    id: VersionId,
    key: &'a [u8],
    kind: i64,
    create_revision: i64,
    version: i64,
    lease: i64,
    key_id: Option<i64>,
    value: Option<Cow<'a, [u8]>>,
}

impl Columns<'_> {
    /// CRC-32C over numbers and lengths in little-endian order, the key, and the value as it is on disk.
    fn checksum(&self) -> u32 {
        let value = self.value.as_deref();
        let numbers = [
            self.id.0,
            self.kind,
            self.create_revision,
            self.version,
            self.lease,
            self.key_id.unwrap_or(0),
            length(Some(self.key)),
            length(value),
        ];
        let checksum = numbers.iter().fold(0, |checksum, number| {
            crc32c::crc32c_append(checksum, &number.to_le_bytes())
        });
        let checksum = crc32c::crc32c_append(checksum, self.key);
        crc32c::crc32c_append(checksum, value.unwrap_or_default())
    }
}

/// -1 for what is missing, so that it differs from what is empty.
fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| {
        i64::try_from(bytes.len()).expect("a length fits 63 bits")
    })
}

/// Writes a change with the prepared [`INSERT`].
pub(crate) fn insert(
    statement: &mut Statement<'_>,
    change: &Change,
    sealers: &Sealers,
) -> rusqlite::Result<()> {
    insert_version(
        statement,
        (change.id, &change.key, change.entry.as_deref()),
        sealers,
    )
}

/// Writes a version with the prepared [`INSERT`], sealed with the key that is newest now.
pub(crate) fn insert_version(
    statement: &mut Statement<'_>,
    (id, key, entry): (VersionId, &[u8], Option<&Entry>),
    sealers: &Sealers,
) -> rusqlite::Result<()> {
    let mut columns = Columns {
        id,
        key,
        kind: KIND_TOMBSTONE,
        create_revision: 0,
        version: 0,
        lease: 0,
        key_id: None,
        value: None,
    };
    if let Some(entry) = entry {
        columns.kind = KIND_PUT;
        columns.create_revision = entry.create_revision;
        columns.version = entry.version;
        columns.lease = entry.lease;
        columns.value = Some(Cow::Borrowed(&entry.value));
        if let Some(sealer) = sealers.for_key(&entry.key) {
            let (key_id, sealed) = sealer.seal(&entry.key, &entry.value);
            columns.key_id = Some(key_id);
            columns.value = Some(Cow::Owned(sealed));
        }
    }
    let checksum = columns.checksum();
    let Columns {
        id,
        key,
        kind,
        create_revision,
        version,
        lease,
        key_id,
        value,
    } = &columns;
    statement.execute(params![
        id.0,
        key,
        kind,
        create_revision,
        version,
        lease,
        key_id,
        checksum,
        value.as_deref()
    ])?;
    Ok(())
}

/// What a row says: the version, its key, and the entry unless it is a tombstone.
pub(crate) type Version = (VersionId, Arc<[u8]>, Option<Arc<Entry>>);

#[derive(Debug)]
pub(crate) enum ReadError {
    Sqlite(rusqlite::Error),
    Row {
        id: VersionId,
        key: String,
        problem: RowProblem,
    },
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Reads a row of [`SELECT_ALL`] or [`SELECT_ONE`].
pub(crate) fn read(row: &Row<'_>, sealers: &Sealers) -> Result<Version, ReadError> {
    let id = VersionId(row.get(0)?);
    let key = row.get_ref(1)?.as_blob().unwrap_or_default();
    let decoded = columns(row, id, key)
        .ok_or(RowProblem::Shape)
        .and_then(|(columns, checksum)| decode(&columns, checksum, sealers));
    decoded.map_err(|problem| ReadError::Row {
        id,
        key: String::from_utf8_lossy(key).into_owned(),
        problem,
    })
}

/// The columns and their checksum; `None` if they are of other types than were written.
fn columns<'a>(row: &'a Row<'_>, id: VersionId, key: &'a [u8]) -> Option<(Columns<'a>, i64)> {
    let number = |column| row.get_ref(column).ok()?.as_i64().ok();
    let columns = Columns {
        id,
        key,
        kind: number(2)?,
        create_revision: number(3)?,
        version: number(4)?,
        lease: number(5)?,
        key_id: row.get_ref(6).ok()?.as_i64_or_null().ok()?,
        value: row
            .get_ref(8)
            .ok()?
            .as_blob_or_null()
            .ok()?
            .map(Cow::Borrowed),
    };
    Some((columns, number(7)?))
}

fn decode(columns: &Columns<'_>, checksum: i64, sealers: &Sealers) -> Result<Version, RowProblem> {
    if checksum != i64::from(columns.checksum()) {
        return Err(RowProblem::Checksum);
    }
    let key: Arc<[u8]> = Arc::from(columns.key);
    if columns.kind == KIND_TOMBSTONE {
        return Ok((columns.id, key, None));
    }
    let value = columns.value.as_deref().ok_or(RowProblem::Shape)?;
    let value: Arc<[u8]> = match columns.key_id {
        None => Arc::from(value),
        Some(key_id) => {
            let sealer = sealers
                .for_key_id(key_id)
                .ok_or(RowProblem::UnknownKey(key_id))?;
            sealer
                .open(key_id, &key, value)
                .map_err(|_changed| RowProblem::Sealed)?
                .into()
        }
    };
    let entry = Entry {
        key: Arc::clone(&key),
        value,
        create_revision: columns.create_revision,
        mod_revision: columns.id.revision(),
        version: columns.version,
        lease: columns.lease,
        memo: OnceLock::new(),
    };
    Ok((columns.id, key, Some(Arc::new(entry))))
}

//! A number over all that is in the file, written at a clean stop and compared at the next start: rows that are missing or came back are noticed, which
//! no checksum of a row can do. It costs no page beside what a clean stop writes anyway.

use rusqlite::{Connection, params};

use crate::load::fact;
use crate::schema::meta;

/// The rows of the log, by their ids: what is in each is under its own checksum. Rows come and go in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows(u64);

impl Rows {
    pub(crate) fn add(&mut self, id: i64) {
        self.0 = self.0.wrapping_add(mix(id));
    }

    pub(crate) fn remove(&mut self, id: i64) {
        self.0 = self.0.wrapping_sub(mix(id));
    }
}

/// Spreads ids, which differ in few bits, over all numbers (the finalizer of `SplitMix64`).
fn mix(id: i64) -> u64 {
    let id = id.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
    let id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    id ^ (id >> 31)
}

/// Of the rows, the leases and the facts as they are on the connection.
pub(crate) fn of(connection: &Connection, rows: Rows) -> rusqlite::Result<i64> {
    let mut checksum = 0;
    let mut take = |number: i64| checksum = crc32c::crc32c_append(checksum, &number.to_le_bytes());
    for name in [meta::COMPACT_REVISION, meta::REVISION_WATERMARK] {
        take(fact(connection, name)?.unwrap_or(0));
    }
    let mut statement = connection.prepare("SELECT id, ttl FROM lease ORDER BY id")?;
    let mut leases = statement.query([])?;
    while let Some(lease) = leases.next()? {
        take(lease.get(0)?);
        take(lease.get(1)?);
    }
    Ok(mix((rows.0 ^ u64::from(checksum)).cast_signed()).cast_signed())
}

pub(crate) fn write(connection: &Connection, rows: Rows) -> rusqlite::Result<()> {
    let seal = of(connection, rows)?;
    connection.execute(
        "INSERT OR REPLACE INTO meta(k, v) VALUES(?1, ?2)",
        params![meta::SEAL, seal],
    )?;
    Ok(())
}

/// Whether the file holds what it held at the clean stop before, if there was one.
pub(crate) fn holds(connection: &Connection, rows: Rows) -> rusqlite::Result<bool> {
    if fact(connection, meta::CLEAN_SHUTDOWN)? != Some(meta::SEALED) {
        return Ok(true);
    }
    Ok(fact(connection, meta::SEAL)? == Some(of(connection, rows)?))
}

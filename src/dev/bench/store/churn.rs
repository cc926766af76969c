//! A day of writes, compressed: what the store's file, its log and its memory come to while history is forgotten as it is by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use kv::{Durability, Kv as _, Operation, Txn};
use sqlite::{Options, SqliteKv};

use crate::process;
use crate::report::{Report, megabytes};

const WRITES: usize = 10_000_000;
const KEYS: usize = 100_000;
/// Puts in one transaction, so that the day takes minutes.
const PUTS: usize = 100;
const WRITERS: usize = 8;
/// Five minutes of so many writes a day: how often the store forgets what is older than the span before.
const COMPACT_EVERY: usize = WRITES / (24 * 60 / 5);
const LOOK_EVERY: usize = WRITES / 10;
const FILE_TIMES_LIVE_MAX: f64 = 3.0;
/// 4,096 pages, 1,024 more if a reader was in the way, and the last batch.
const LOG_MEGABYTES_MAX: f64 = 32.0;
/// What memory may grow by after the first fifth.
const MEMORY_GROWTH_MAX: f64 = 1.2;

pub(crate) async fn run(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join("state.db");
    let options = Options {
        auto_compaction: None,
        ..Options::default()
    };
    let store = SqliteKv::open(&file, options)?;
    report.say("| writes | seconds | live MB | database MB | × live | log MB | resident MB |");
    report.say("|---|---|---|---|---|---|---|");
    let (begun, mut previous, mut settled) = (Instant::now(), 0, 0.0);
    for done in (COMPACT_EVERY..=WRITES).step_by(COMPACT_EVERY) {
        write(&store, done - COMPACT_EVERY).await?;
        let now = store.current_revision();
        if previous > 0 {
            store.compact(previous).await?;
        }
        previous = now;
        let is_last = done + COMPACT_EVERY > WRITES;
        if is_last || done / LOOK_EVERY > (done - COMPACT_EVERY) / LOOK_EVERY {
            let look = Look::at(&file)?;
            report.say(&format!(
                "| {done} | {:.0} | {:.1} | {:.1} | {:.2} | {:.1} | {:.1} |",
                begun.elapsed().as_secs_f64(),
                look.live,
                look.database,
                look.database / look.live,
                look.log,
                look.resident
            ));
            ensure!(
                look.database <= FILE_TIMES_LIVE_MAX * look.live,
                "the database is too large"
            );
            ensure!(look.log <= LOG_MEGABYTES_MAX, "the log is too long");
            if done / LOOK_EVERY == 2 {
                settled = look.resident;
            }
            let flat = settled <= 0.0 || look.resident <= settled * MEMORY_GROWTH_MAX;
            ensure!(flat, "memory grew from {settled:.1} MB");
        }
    }
    store.close().await?;
    Ok(())
}

struct Look {
    live: f64,
    database: f64,
    log: f64,
    resident: f64,
}

impl Look {
    fn at(file: &Path) -> anyhow::Result<Self> {
        let log = file.with_extension("db-wal");
        Ok(Self {
            live: megabytes(live_bytes()),
            database: megabytes(file.metadata()?.len()),
            log: megabytes(log.metadata()?.len()),
            resident: megabytes(process::resident(std::process::id())?),
        })
    }
}

/// One span of the day.
async fn write(store: &Arc<SqliteKv>, first: usize) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let mut number = first + writer * PUTS;
            while number < first + COMPACT_EVERY {
                store.txn(puts(number), Durability::Durable).await?;
                number += WRITERS * PUTS;
            }
            Ok::<_, kv::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Bytes of all keys and values, about: each value is as long as any other one in the mean.
fn live_bytes() -> u64 {
    let key = "/registry/churn/00000000".len();
    let values: usize = (0..KEYS).map(value_bytes).sum();
    (KEYS * key + values) as u64
}

fn value_bytes(number: usize) -> usize {
    64 + number.wrapping_mul(131) % 385
}

/// Puts of keys all over the store, with values of 64 to 448 bytes.
fn puts(number: usize) -> Txn {
    let put = |number: usize| Operation::Put {
        key: format!(
            "/registry/churn/{:08}",
            number.wrapping_mul(super::puts::STRIDE) % KEYS
        )
        .into(),
        value: Arc::from(vec![b'x'; value_bytes(number)]),
        lease: 0,
    };
    Txn {
        success: (number..number + PUTS).map(put).collect(),
        ..Txn::default()
    }
}

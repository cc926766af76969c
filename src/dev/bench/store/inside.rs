//! The store in this process, without the API in front: what Combo's own API server has of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kv::{Durability, KeyRange, Kv as _, Operation, RangeContent, RangeRequest, Txn};
use sqlite::{Options, SqliteKv};

use super::puts::{VALUE_BYTES, percentile};
use crate::report::{AtMost, Report, median};

const OPENINGS: usize = 5;
const COUNTS: usize = 101;
/// What is compacted at once.
const REVISIONS: usize = 1_000_000;
const KEYS: usize = 10_000;
const FILLERS: usize = 500;
const WRITERS: usize = 10;
/// How long the same writers are watched before the compaction.
const BEFORE: Duration = Duration::from_secs(5);

/// Opens a store with the keys of [`super::puts`], and counts them.
pub(crate) async fn open_and_count(file: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (mut openings, mut counts) = (Vec::new(), Vec::new());
    for _ in 0..OPENINGS {
        let begun = Instant::now();
        let store = SqliteKv::open(file, Options::default())?;
        openings.push(milliseconds(begun.elapsed()));
        for _ in 0..COUNTS {
            let begun = Instant::now();
            let request = RangeRequest {
                content: RangeContent::CountOnly,
                ..RangeRequest::newest(KeyRange::prefix("/registry/bench/"))
            };
            let found = store.range(request).await?;
            counts.push(milliseconds(begun.elapsed()));
            anyhow::ensure!(found.count == super::KEYS, "{} keys are there", found.count);
        }
        store.close().await?;
    }
    report.figure(
        "open with 100,000 keys, median of 5",
        median(openings),
        "ms",
        AtMost(300.0),
    );
    report.figure(
        "count of 100,000 keys, in process",
        median(counts),
        "ms",
        AtMost(0.2),
    );
    Ok(())
}

/// Writes a million revisions, and compares the writes before their compaction and during it.
pub(crate) async fn compact(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let options = Options {
        auto_compaction: None,
        ..Options::default()
    };
    let store = SqliteKv::open(&folder.join("state.db"), options)?;
    let begun = Instant::now();
    let revisions = Arc::new(AtomicUsize::new(REVISIONS));
    let fewer = move || revisions.fetch_sub(1, Ordering::Relaxed) > 1;
    let filled = write(&store, FILLERS, fewer).await?;
    report.say(&format!(
        "{} durable puts of 1 KB in process by {FILLERS} callers in {:.1} s",
        filled.len(),
        begun.elapsed().as_secs_f64()
    ));
    let begun = Instant::now();
    let mut before = write(&store, WRITERS, move || begun.elapsed() < BEFORE).await?;
    let swept = Arc::new(AtomicBool::new(false));
    let compaction = {
        let (store, swept) = (Arc::clone(&store), Arc::clone(&swept));
        env::spawn(async move {
            let begun = Instant::now();
            store.compact(store.current_revision()).await?;
            store.swept().await?;
            swept.store(true, Ordering::Relaxed);
            Ok::<_, kv::Error>(begun.elapsed())
        })
    };
    let mut during = write(&store, WRITERS, move || !swept.load(Ordering::Relaxed)).await?;
    let took = compaction.await??;
    let (before_p99, during_p99) = (percentile(&mut before, 0.99), percentile(&mut during, 0.99));
    let longest = during.last().copied().map_or(0.0, milliseconds);
    report.say(&format!(
        "a million revisions are compacted in {:.1} s; of {} writes meanwhile the longest takes {longest:.1} ms; \
         p99 {before_p99:.2} ms before, {during_p99:.2} ms meanwhile",
        took.as_secs_f64(),
        during.len(),
    ));
    let more = during_p99 - before_p99;
    report.figure(
        "write p99 while a million revisions are compacted, more than before",
        more,
        "ms",
        AtMost(5.0),
    );
    store.close().await?;
    Ok(())
}

/// Puts by callers who each wait for their answer, as long as the condition holds; how long each took.
async fn write(
    store: &Arc<SqliteKv>,
    callers: usize,
    goes_on: impl Fn() -> bool + Clone + Send + 'static,
) -> anyhow::Result<Vec<Duration>> {
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let (store, goes_on) = (Arc::clone(store), goes_on.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            let mut number = caller;
            while goes_on() {
                let begun = Instant::now();
                put(&store, number % KEYS).await?;
                latencies.push(begun.elapsed());
                number += callers;
            }
            Ok::<_, kv::Error>(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}

/// A durable put of 1 KB.
async fn put(store: &SqliteKv, number: usize) -> kv::Result<()> {
    let operation = Operation::Put {
        key: format!("/registry/bench/{number:08}").into_bytes(),
        value: Arc::from([b'x'; VALUE_BYTES]),
        lease: 0,
    };
    let txn = Txn {
        success: vec![operation],
        ..Txn::default()
    };
    store.txn(txn, Durability::Durable).await.map(drop)
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

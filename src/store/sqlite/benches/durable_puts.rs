//! What one machine's disk and this store do together: durable puts at several numbers of callers, opening, listing, and whether an idle store sleeps.
//!
//! `cargo bench -p sqlite`; the directory is the first argument that is a path, else the working directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv::{Durability, KeyRange, Kv, Operation, RangeContent, RangeRequest, Txn};
use sqlite::{Options, SqliteKv};
use tokio::runtime::Builder;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(800);
const KEYS: usize = 100_000;

fn main() {
    let argument = std::env::args()
        .skip(1)
        .find(|argument| Path::new(argument).is_dir());
    let directory =
        tempfile::tempdir_in(argument.unwrap_or_else(|| ".".into())).expect("a directory");
    let path = directory.path().join("state.db");
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let store = open(&path);
        for callers in [1, 32, 100] {
            let mut rates = Vec::new();
            for _ in 0..ROUNDS {
                rates.push(puts_per_second(&store, callers).await);
            }
            rates.sort_by(f64::total_cmp);
            println!(
                "{callers:>4} callers: {:>8.0} durable puts/s of 1 KB (median of {ROUNDS})",
                rates[ROUNDS / 2]
            );
        }
        fill(&store).await;
        println!(
            "idle: {} wake-ups of the store's threads in 3 s",
            idle_wake_ups().await
        );
        store.close().await.expect("the store closes");
        drop(store);

        let before = resident_kib();
        let start = Instant::now();
        let store = open(&path);
        println!(
            "open: {:.0} ms for {} keys, {} MB more memory",
            milliseconds(start),
            store.status().await.expect("a status").keys,
            (resident_kib() - before) / 1024
        );
        for (name, limit, content) in [
            ("list", 0, RangeContent::KeysAndValues),
            ("list, limit 500", 500, RangeContent::KeysAndValues),
            ("count", 0, RangeContent::CountOnly),
        ] {
            let request = RangeRequest {
                limit,
                content,
                ..RangeRequest::newest(KeyRange::prefix("/k/"))
            };
            let start = Instant::now();
            let answer = store.range(request).await.expect("a range");
            println!(
                "{name}: {:.3} ms, {} of {}",
                milliseconds(start),
                answer.entries.len(),
                answer.count
            );
        }
        store.close().await.expect("the store closes");
    });
}

fn open(path: &Path) -> Arc<SqliteKv> {
    SqliteKv::open(path, Options::default()).expect("the store opens")
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

async fn put(store: &SqliteKv, key: String, value: &Arc<[u8]>) {
    let operation = Operation::Put {
        key: key.into_bytes(),
        value: Arc::from(&value[..]),
        lease: 0,
    };
    store
        .txn(
            Txn {
                success: vec![operation],
                ..Txn::default()
            },
            Durability::Durable,
        )
        .await
        .expect("a put");
}

async fn puts_per_second(store: &Arc<SqliteKv>, callers: usize) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let store = Arc::clone(store);
            env::spawn(async move {
                let value: Arc<[u8]> = vec![b'x'; 1024].into();
                let mut done = 0u32;
                while start.elapsed() < ROUND {
                    put(&store, format!("/bench/{caller}/{}", done % 100), &value).await;
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("a caller");
    }
    f64::from(done) / start.elapsed().as_secs_f64()
}

async fn fill(store: &Arc<SqliteKv>) {
    let tasks: Vec<_> = (0..200)
        .map(|caller| {
            let store = Arc::clone(store);
            env::spawn(async move {
                let value: Arc<[u8]> = vec![b'x'; 1024].into();
                for number in (caller..KEYS).step_by(200) {
                    put(&store, format!("/k/{number:06}"), &value).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a caller");
    }
    store
        .compact(store.current_revision())
        .await
        .expect("a compaction");
}

/// Voluntary switches of the threads `store` and `checkpoint`, after they had time to come to rest.
async fn idle_wake_ups() -> u64 {
    env::sleep(Duration::from_secs(6)).await;
    let before = switches();
    env::sleep(Duration::from_secs(3)).await;
    switches() - before
}

fn switches() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("the process' threads");
    let status =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).unwrap_or_default();
    tasks
        .flatten()
        .map(status)
        .filter(|status| {
            status.starts_with("Name:\tstore") || status.starts_with("Name:\tcheckpoint")
        })
        .filter_map(|status| field(&status, "voluntary_ctxt_switches:"))
        .sum()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the process' status");
    field(&status, "VmRSS:").unwrap_or(0)
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| {
        line.strip_prefix(name)?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    })
}

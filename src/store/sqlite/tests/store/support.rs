//! What the suites share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kv::{
    Durability, Event, KeyRange, Kv, Operation, RangeRequest, Revision, Txn, TxnResponse,
    WatchMessage, WatchRequest, WatchStream,
};
use sqlite::{Options, SqliteKv};
use tempfile::TempDir;
use tokio::runtime::Builder;

/// Longer than any test takes on a slow machine.
const DEADLINE: Duration = Duration::from_mins(2);

pub(crate) fn run<F: Future>(test: F) -> F::Output {
    run_within(DEADLINE, test)
}

pub(crate) fn run_within<F: Future>(deadline: Duration, test: F) -> F::Output {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        env::timeout(deadline, test)
            .await
            .expect("the test takes too long")
    })
}

/// A directory in memory if there is one: what is tested here is not the disk.
pub(crate) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    directory.expect("a temporary directory")
}

pub(crate) fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("state.db")
}

/// Nothing happens on its own.
pub(crate) fn quiet() -> Options {
    Options {
        auto_compaction: None,
        ..Options::default()
    }
}

pub(crate) fn open(path: &Path) -> Arc<SqliteKv> {
    SqliteKv::open(path, quiet()).expect("the store opens")
}

pub(crate) fn put_operation(key: &str, value: &[u8]) -> Operation {
    Operation::Put {
        key: key.into(),
        value: Arc::from(value),
        lease: 0,
    }
}

pub(crate) async fn write(kv: &dyn Kv, operations: Vec<Operation>) -> kv::Result<TxnResponse> {
    kv.txn(
        Txn {
            success: operations,
            ..Txn::default()
        },
        Durability::Durable,
    )
    .await
}

pub(crate) async fn put(kv: &dyn Kv, key: &str, value: &[u8]) -> kv::Result<Revision> {
    Ok(write(kv, vec![put_operation(key, value)]).await?.revision)
}

pub(crate) async fn delete(kv: &dyn Kv, key: &str) -> kv::Result<Revision> {
    Ok(write(kv, vec![Operation::DeleteRange(KeyRange::key(key))])
        .await?
        .revision)
}

pub(crate) async fn get(
    kv: &dyn Kv,
    key: &str,
    revision: Option<Revision>,
) -> kv::Result<Option<Vec<u8>>> {
    let request = RangeRequest {
        revision,
        ..RangeRequest::newest(KeyRange::key(key))
    };
    Ok(kv
        .range(request)
        .await?
        .entries
        .first()
        .map(|entry| entry.value.to_vec()))
}

pub(crate) async fn watch(
    kv: &dyn Kv,
    range: KeyRange,
    start_revision: Option<Revision>,
) -> WatchStream {
    kv.watch(WatchRequest {
        range,
        start_revision,
    })
    .await
    .expect("a watch")
}

/// Everything that a watch has to say until it is up to date, one line for each event.
pub(crate) async fn drain(stream: &mut WatchStream) -> Vec<String> {
    let mut lines = Vec::new();
    // A watch of what is compacted has nobody to ask, and says so itself.
    let _over = stream.progress.0.send(()).await;
    let mut last = 0;
    while let Some(message) = stream.messages.recv().await {
        match message {
            WatchMessage::Events(events) => {
                assert!(
                    events[0].revision() > last,
                    "a revision is split or out of order"
                );
                last = events[events.len() - 1].revision();
                lines.extend(events.iter().map(line));
            }
            WatchMessage::Progress(revision) => {
                assert!(revision >= last, "progress is behind the events");
                lines.push(format!("progress {revision}"));
                break;
            }
            WatchMessage::Compacted { compact_revision } => {
                lines.push(format!("compacted {compact_revision}"));
                break;
            }
        }
    }
    lines
}

pub(crate) fn line(event: &Event) -> String {
    let entry = |entry: &kv::Entry| {
        let (key, value) = (
            String::from_utf8_lossy(&entry.key),
            String::from_utf8_lossy(&entry.value),
        );
        format!(
            "{key}={value} created {} modified {} version {} lease {}",
            entry.create_revision, entry.mod_revision, entry.version, entry.lease
        )
    };
    let previous = |previous: &Option<Arc<kv::Entry>>| previous.as_deref().map(entry);
    match event {
        Event::Put {
            entry: new,
            previous: old,
        } => format!("put {} was {:?}", entry(new), previous(old)),
        Event::Delete {
            key,
            revision,
            previous: old,
        } => {
            format!(
                "delete {} at {revision} was {:?}",
                String::from_utf8_lossy(key),
                previous(old)
            )
        }
    }
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    while !condition().await {
        env::sleep(Duration::from_millis(2)).await;
    }
}

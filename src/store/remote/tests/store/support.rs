//! What the suites share.

use std::sync::Arc;
use std::time::Duration;

use kv::{
    Durability, Event, KeyRange, Kv, Operation, RangeRequest, Revision, Txn, TxnResponse,
    WatchMessage, WatchRequest, WatchStream,
};
use remote::{Client, Endpoints, Options, RemoteKv, Security};
use tokio::runtime::Builder;

/// Longer than any test takes on a slow machine.
const DEADLINE: Duration = Duration::from_mins(2);

pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        env::timeout(DEADLINE, test)
            .await
            .expect("the test takes too long")
    })
}

/// A store at these members, whose tasks do nothing on their own.
pub(crate) async fn open(endpoints: &str) -> Arc<RemoteKv> {
    open_with(endpoints, quiet()).await
}

pub(crate) fn quiet() -> Options {
    Options {
        auto_compaction: None,
        ..Options::default()
    }
}

pub(crate) async fn open_with(endpoints: &str, options: Options) -> Arc<RemoteKv> {
    let endpoints = Endpoints::parse(endpoints).expect("endpoints");
    let client = Client::new(endpoints, Security::Plain);
    RemoteKv::open(client, options)
        .await
        .expect("the store opens")
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
) -> kv::Result<Option<String>> {
    let request = RangeRequest {
        revision,
        ..RangeRequest::newest(KeyRange::key(key))
    };
    let found = kv.range(request).await?;
    let value = |entry: &Arc<kv::Entry>| String::from_utf8_lossy(&entry.value).into_owned();
    Ok(found.entries.first().map(value))
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

/// Everything that a watch has to say until it is up to date, one line for each event. The newest revision is read first: what a mirror says is as
/// old as the last consistent read.
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
            let key = String::from_utf8_lossy(key);
            format!("delete {key} at {revision} was {:?}", previous(old))
        }
    }
}

/// The next event of a watch, as one line.
pub(crate) async fn next(stream: &mut WatchStream) -> String {
    match stream.messages.recv().await.expect("a message") {
        WatchMessage::Events(events) => events.iter().map(line).collect::<Vec<_>>().join(", "),
        WatchMessage::Progress(revision) => format!("progress {revision}"),
        WatchMessage::Compacted { compact_revision } => format!("compacted {compact_revision}"),
    }
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    while !condition().await {
        env::sleep(Duration::from_millis(5)).await;
    }
}

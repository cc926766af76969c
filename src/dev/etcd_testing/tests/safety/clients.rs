//! Clients that ask for much and read little.

use std::time::{Duration, Instant};

use etcd_testing::{Client, pb};
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tonic::Status;

use crate::support::{Server, database, directory, quiet, run};

/// What a put of another client may take while somebody misbehaves; a slow machine is counted in.
const NORMAL: Duration = Duration::from_secs(2);

async fn works(server: &Server) {
    let begun = Instant::now();
    server.put("works", b"1").await.unwrap();
    assert!(begun.elapsed() < NORMAL, "{:?}", begun.elapsed());
}

type Answers = mpsc::Receiver<Result<pb::WatchResponse, Status>>;

async fn watch(client: &Client, key: &str) -> Answers {
    let create = pb::WatchCreateRequest {
        key: key.into(),
        range_end: b"~".to_vec(),
        ..Default::default()
    };
    let create = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let requests = stream::iter([create]).chain(stream::pending());
    let mut answers = client.stream(requests);
    assert!(answers.recv().await.unwrap().unwrap().created);
    answers
}

#[test]
fn a_hundred_thousand_leases_are_granted_listed_and_in_nobodys_way() {
    const LEASES: i64 = 100_000;
    run(async {
        let folder = directory();
        let server = Server::start(&database(&folder), quiet()).await;
        let grants = stream::iter(1..=LEASES).map(|id| {
            let client = server.client.clone();
            async move { client.call(pb::LeaseGrantRequest { ttl: 3600, id }).await }
        });
        let mut grants = grants.buffer_unordered(512);
        while let Some(granted) = grants.next().await {
            granted.unwrap();
        }
        drop(grants);
        let listed = server.client.call(pb::LeaseLeasesRequest::default()).await;
        assert_eq!(listed.unwrap().leases.len() as i64, LEASES);
        let again = pb::LeaseGrantRequest { ttl: 3600, id: 7 };
        let again = server.client.call(again).await.unwrap_err();
        assert_eq!(again.message(), "etcdserver: lease already exists");
        works(&server).await;
        // They are there after a restart.
        server.stop().await;
        let server = Server::start(&database(&folder), quiet()).await;
        let ttl = pb::LeaseTimeToLiveRequest {
            id: LEASES,
            keys: false,
        };
        let ttl = server.client.call(ttl).await.unwrap();
        assert_eq!(ttl.granted_ttl, 3600);
        let revoke = pb::LeaseRevokeRequest { id: LEASES };
        server.client.call(revoke).await.unwrap();
        works(&server).await;
        server.stop().await;
    });
}

#[test]
fn a_client_that_never_reads_holds_up_nobody_and_takes_little_memory() {
    const WRITTEN_BYTES: u64 = 300 << 20;
    // The newest events are kept, and the tests beside this one are counted, too.
    const MEMORY_MAX: u64 = 160 << 20;
    run(async {
        let folder = directory();
        let server = Server::start(&database(&folder), quiet()).await;
        let other = Client::connect(server.port).await.unwrap();
        let unread = watch(&other, "k").await;
        let mut read = watch(&server.client, "k").await;
        let value = vec![b'x'; 100_000];
        let before = memory();
        let mut revision = 0;
        for _ in 0..WRITTEN_BYTES / 100_000 {
            // One key: the store itself does not grow.
            revision = server.put("k", &value).await.unwrap();
        }
        let grown = memory().saturating_sub(before);
        assert!(
            grown < MEMORY_MAX,
            "{grown} bytes for a client that reads nothing"
        );
        // Who reads has everything.
        let mut seen = 0;
        while seen < revision {
            let answer = read.recv().await.unwrap().unwrap();
            for event in &answer.events {
                let version = event.kv.as_ref().unwrap().mod_revision;
                assert_eq!(version, seen.max(1) + 1, "an event is missing");
                seen = version;
            }
        }
        drop(unread);
        works(&server).await;
        server.stop().await;
    });
}

/// Resident bytes of this process.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() << 10
}

#[test]
fn slow_watchers_see_every_event_and_delay_no_write() {
    const WATCHERS: usize = 50;
    const WRITES: i64 = 2000;
    run(async {
        let folder = directory();
        let server = Server::start(&database(&folder), quiet()).await;
        let slow: Vec<_> = stream::iter(0..WATCHERS)
            .then(async |_| {
                let client = Client::connect(server.port).await.unwrap();
                let answers = watch(&client, "s").await;
                (client, answers)
            })
            .map(|(client, answers)| env::spawn(read_slowly(client, answers, WRITES)))
            .collect()
            .await;
        let begun = Instant::now();
        for number in 0..WRITES {
            let key = format!("s/{}", number % 100);
            server.put(&key, &[b'x'; 2000]).await.unwrap();
        }
        let each = begun.elapsed() / u32::try_from(WRITES).unwrap();
        assert!(each < Duration::from_millis(20), "{each:?} for a put");
        for watcher in slow {
            assert_eq!(watcher.await.unwrap(), WRITES);
        }
        server.stop().await;
    });
}

/// Tells how many events there were; they come in order, without a gap.
async fn read_slowly(_connection: Client, mut answers: Answers, wanted: i64) -> i64 {
    let mut seen = 0;
    while seen < wanted {
        let answer = answers.recv().await.unwrap().unwrap();
        for event in &answer.events {
            assert_eq!(event.kv.as_ref().unwrap().mod_revision, seen + 2);
            seen += 1;
        }
        // tidy: allow(sleep): this client is slow.
        env::sleep(Duration::from_millis(3)).await;
    }
    seen
}

//! A store behind etcd's API, and what its tests ask of it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use env::{Shutdown, ShutdownTrigger};
use etcd::{Door, Identity};
use etcd_testing::{Client, pb};
use sqlite::{OpenError, Options, SqliteKv};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// Longer than any test takes on a slow machine.
const DEADLINE: Duration = Duration::from_mins(5);

pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
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

/// In memory if there is such a place: what is tested here is not the disk.
pub(crate) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    directory.expect("a temporary directory")
}

/// Nothing happens on its own.
pub(crate) fn quiet() -> Options {
    Options {
        auto_compaction: None,
        ..Options::default()
    }
}

pub(crate) struct Server {
    pub(crate) store: Arc<SqliteKv>,
    pub(crate) client: Client,
    pub(crate) port: u16,
    trigger: ShutdownTrigger,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(file: &Path, options: Options) -> Self {
        Self::try_start(file, options)
            .await
            .expect("the store opens")
    }

    pub(crate) async fn try_start(file: &Path, options: Options) -> Result<Self, OpenError> {
        let store = SqliteKv::open(file, options)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (trigger, shutdown): (_, Shutdown) = Shutdown::new();
        let identity = Identity::derived(b"cluster", "member", Vec::new());
        let serving = env::spawn(etcd::serve(
            Arc::clone(&store) as Arc<dyn kv::Kv>,
            identity,
            listener,
            Door::Open,
            shutdown,
        ));
        let client = Client::connect(port).await.unwrap();
        Ok(Self {
            store,
            client,
            port,
            trigger,
            serving,
        })
    }

    pub(crate) async fn stop(self) {
        self.trigger.trigger();
        drop(self.client);
        self.serving.await.unwrap();
        // A damaged store cannot write that it was closed.
        let _damaged = kv_close(&self.store).await;
    }

    pub(crate) async fn put(&self, key: &str, value: &[u8]) -> Result<i64, Status> {
        let request = pb::PutRequest {
            key: key.into(),
            value: value.to_vec(),
            ..Default::default()
        };
        let answer = self.client.call(request).await?;
        Ok(answer.header.expect("a header").revision)
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<i64, Status> {
        let request = pb::DeleteRangeRequest {
            key: key.into(),
            ..Default::default()
        };
        Ok(self.client.call(request).await?.deleted)
    }

    pub(crate) async fn get(&self, key: &str, revision: i64) -> Result<Option<Vec<u8>>, Status> {
        let request = pb::RangeRequest {
            key: key.into(),
            revision,
            ..Default::default()
        };
        let found = self.client.call(request).await?;
        Ok(found.kvs.into_iter().next().map(|found| found.value))
    }

    /// Every key with its value.
    pub(crate) async fn everything(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let request = pb::RangeRequest {
            key: vec![0],
            range_end: vec![0],
            ..Default::default()
        };
        let found = self.client.call(request).await.expect("newest values");
        let pair = |found: etcd_testing::mvccpb::KeyValue| (found.key, found.value);
        found.kvs.into_iter().map(pair).collect()
    }

    pub(crate) async fn compact(&self, revision: i64) -> Result<(), Status> {
        let physical = true;
        let request = pb::CompactionRequest { revision, physical };
        self.client.call(request).await.map(drop)
    }

    pub(crate) async fn alarms(&self, action: pb::alarm_request::AlarmAction) -> Vec<i32> {
        let request = pb::AlarmRequest {
            action: action.into(),
            ..Default::default()
        };
        let answer = self.client.call(request).await.expect("alarms");
        answer.alarms.iter().map(|member| member.alarm).collect()
    }

    pub(crate) async fn raised(&self) -> Vec<i32> {
        self.alarms(pb::alarm_request::AlarmAction::Get).await
    }

    pub(crate) async fn disarm(&self, alarm: pb::AlarmType) -> usize {
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Deactivate.into(),
            alarm: alarm.into(),
            ..Default::default()
        };
        self.client
            .call(request)
            .await
            .expect("disarmed")
            .alarms
            .len()
    }

    /// One of the plain pages: its status and body.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
            .await
            .unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, body.to_owned())
    }
}

async fn kv_close(store: &SqliteKv) -> kv::Result<()> {
    store.close().await
}

/// What a refusal says.
pub(crate) fn told(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

pub(crate) const NO_SPACE: (Code, &str) = (
    Code::ResourceExhausted,
    "etcdserver: mvcc: database space exceeded",
);
pub(crate) const CORRUPT: (Code, &str) = (Code::DataLoss, "etcdserver: corrupt cluster");
pub(crate) const ALARM_NO_SPACE: i32 = pb::AlarmType::Nospace as i32;
pub(crate) const ALARM_CORRUPT: i32 = pb::AlarmType::Corrupt as i32;

pub(crate) fn database(directory: &TempDir) -> PathBuf {
    directory.path().join("state.db")
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    while !condition().await {
        env::sleep(Duration::from_millis(5)).await;
    }
}

impl Server {
    pub(crate) fn store_revision(&self) -> i64 {
        kv::Kv::current_revision(&*self.store)
    }
}

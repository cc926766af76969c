//! What happens when somebody else is quicker, and what an answer costs.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kv::{
    Durability, HashKv, KeyRange, Kv, LeaseId, LeaseStatus, Operation, RangeRequest, RangeResponse,
    Result, Revision, Status, Txn, TxnResponse, WatchRequest, WatchStream,
};
use serde_json::{Value, json};
use support::{Cluster, running_pod};

const POD: &str = "/api/v1/namespaces/default/pods/p";

/// What somebody else does to a key just before it would be deleted.
#[derive(Clone, Copy, Debug)]
enum Meddling {
    Touch,
    Delete,
}

/// A store with somebody quicker, which counts the entries that are read and notes how safely Nodes were written.
#[derive(Debug)]
struct MeddledKv {
    inner: Arc<dyn Kv>,
    /// One for each delete of a pod, last first.
    meddlings: Mutex<Vec<Meddling>>,
    entries_read: AtomicUsize,
    nodes_written: Mutex<Vec<Durability>>,
}

impl MeddledKv {
    fn over(inner: Arc<dyn Kv>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            meddlings: Mutex::default(),
            entries_read: AtomicUsize::new(0),
            nodes_written: Mutex::default(),
        })
    }

    async fn meddle(&self, range: &KeyRange) -> Result<()> {
        let Some(meddling) = self.meddlings.lock().expect("whole").pop() else {
            return Ok(());
        };
        let found = self
            .inner
            .range(RangeRequest::newest(range.clone()))
            .await?;
        let Some(entry) = found.entries.first() else {
            return Ok(());
        };
        let operation = match meddling {
            Meddling::Touch => Operation::Put {
                key: entry.key.to_vec(),
                value: entry.value.clone(),
                lease: 0,
            },
            Meddling::Delete => Operation::DeleteRange(range.clone()),
        };
        let txn = Txn {
            success: vec![operation],
            ..Txn::default()
        };
        self.inner.txn(txn, Durability::Durable).await.map(drop)
    }
}

#[async_trait]
impl Kv for MeddledKv {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        let response = self.inner.range(request).await?;
        self.entries_read
            .fetch_add(response.entries.len(), Ordering::Relaxed);
        Ok(response)
    }

    async fn txn(&self, txn: Txn, durability: Durability) -> Result<TxnResponse> {
        for operation in &txn.success {
            if matches!(operation, Operation::Put { key, .. } if key.starts_with(b"/registry/nodes/"))
            {
                self.nodes_written.lock().expect("whole").push(durability);
            }
            if let Operation::DeleteRange(range) = operation
                && range.start.starts_with(b"/registry/pods/")
            {
                self.meddle(range).await?;
            }
        }
        self.inner.txn(txn, durability).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        self.inner.watch(request).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.inner.compact(revision).await
    }

    async fn swept(&self) -> Result<()> {
        self.inner.swept().await
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus> {
        self.inner.lease_grant(id, ttl).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision> {
        self.inner.lease_revoke(id).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration> {
        self.inner.lease_keep_alive(id).await
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus> {
        self.inner.lease_status(id).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>> {
        self.inner.leases().await
    }

    async fn status(&self) -> Result<Status> {
        self.inner.status().await
    }

    async fn hash_kv(&self, revision: Option<Revision>) -> Result<HashKv> {
        self.inner.hash_kv(revision).await
    }

    async fn defragment(&self) -> Result<()> {
        self.inner.defragment().await
    }

    async fn snapshot(&self) -> Result<std::fs::File> {
        self.inner.snapshot().await
    }

    fn current_revision(&self) -> Revision {
        self.inner.current_revision()
    }
}

async fn meddled_cluster() -> (Cluster, Arc<MeddledKv>) {
    let kv = MeddledKv::over(kv::MemoryKv::new());
    let cluster = Cluster::start_over(0, kv.clone(), |_config| {}).await;
    (cluster, kv)
}

#[tokio::test]
async fn a_forced_delete_succeeds_whoever_removes_the_pod_in_the_end() {
    let (cluster, kv) = meddled_cluster().await;
    let mut client = cluster.connect_as_admin().await;
    for meddlings in [
        vec![],
        vec![Meddling::Touch],
        vec![Meddling::Delete],
        // The kubelet writes the status once more, and then deletes the pod itself.
        vec![Meddling::Touch, Meddling::Delete],
        vec![Meddling::Touch, Meddling::Touch, Meddling::Delete],
    ] {
        let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
        running_pod(&mut client, "p", spec).await;
        *kv.meddlings.lock().expect("whole") = meddlings.iter().rev().copied().collect();
        let path = format!("{POD}?gracePeriodSeconds=0");
        let (code, pod) = client.call("DELETE", &path, Value::Null).await;
        assert_eq!(code, 200, "{meddlings:?}: {pod}");
        assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 0);
        assert!(kv.meddlings.lock().expect("whole").is_empty());
        assert_eq!(client.call("GET", POD, Value::Null).await.0, 404);
    }
}

#[tokio::test]
async fn the_last_finalizer_is_taken_away_whoever_removes_the_object() {
    let (cluster, kv) = meddled_cluster().await;
    let mut client = cluster.connect_as_admin().await;
    for meddlings in [
        vec![Meddling::Delete],
        vec![Meddling::Touch, Meddling::Delete],
    ] {
        let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
        running_pod(&mut client, "p", spec).await;
        let with = json!({"metadata": {"finalizers": ["example.com/f"]}});
        assert_eq!(client.merge(POD, with).await.0, 200);
        let path = format!("{POD}?gracePeriodSeconds=0");
        assert_eq!(client.call("DELETE", &path, Value::Null).await.0, 200);
        *kv.meddlings.lock().expect("whole") = meddlings.iter().rev().copied().collect();
        let without = json!({"metadata": {"finalizers": null}});
        let (code, pod) = client.merge(POD, without).await;
        assert_eq!(code, 200, "{meddlings:?}: {pod}");
        assert_eq!(client.call("GET", POD, Value::Null).await.0, 404);
    }
}

#[tokio::test]
async fn a_delete_of_what_is_gone_already_is_not_found() {
    let (cluster, kv) = meddled_cluster().await;
    let mut client = cluster.connect_as_admin().await;
    // On no node: there is no grace, and nothing that others could see before it goes.
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    running_pod(&mut client, "p", spec).await;
    assert_eq!(client.call("DELETE", POD, Value::Null).await.0, 200);
    assert!(kv.meddlings.lock().expect("whole").is_empty());
    assert_eq!(client.call("DELETE", POD, Value::Null).await.0, 404);
}

#[tokio::test]
async fn asking_for_a_nodes_secret_costs_what_runs_there() {
    const ELSEWHERE: usize = 60;
    let (cluster, kv) = meddled_cluster().await;
    let mut admin = cluster.connect_as_admin().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}});
    assert_eq!(admin.call("POST", secrets, secret).await.0, 201);
    let spec = |node: &str| {
        json!({"nodeName": node, "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "secret": {"secretName": "s"}}]})
    };
    for number in 0..ELSEWHERE {
        running_pod(&mut admin, &format!("other-{number}"), spec("m")).await;
    }
    let kubelet = pki::Subject::new("system:node:n", &["system:nodes"]);
    let mut kubelet = cluster.connect(Some(kubelet)).await;
    let path = format!("{secrets}/s");
    assert_eq!(kubelet.call("GET", &path, Value::Null).await.0, 403);
    running_pod(&mut admin, "p", spec("n")).await;
    let before = kv.entries_read.load(Ordering::Relaxed);
    // What the node was just given, it may read at once.
    assert_eq!(kubelet.call("GET", &path, Value::Null).await.0, 200);
    let cost = kv.entries_read.load(Ordering::Relaxed) - before;
    assert!(cost < ELSEWHERE / 4, "{cost} entries were read");
    let path_of_pod = format!("{POD}?gracePeriodSeconds=0");
    assert_eq!(admin.call("DELETE", &path_of_pod, Value::Null).await.0, 200);
    assert_eq!(kubelet.call("GET", &path, Value::Null).await.0, 403);
}

#[tokio::test]
async fn a_nodes_heartbeat_need_not_reach_the_disk_and_all_else_must() {
    let (cluster, kv) = meddled_cluster().await;
    let mut admin = cluster.connect_as_admin().await;
    let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}});
    assert_eq!(
        admin.call("POST", "/api/v1/nodes", node.clone()).await.0,
        201
    );
    let mut told = async |minute: u32, ready: &str| {
        let time = format!("2026-01-01T00:{minute:02}:00Z");
        let condition = json!({"type": "Ready", "status": ready, "lastHeartbeatTime": time});
        let status = json!({"status": {"conditions": [condition]}});
        let patched = admin.merge("/api/v1/nodes/n/status", status).await;
        assert_eq!(patched.0, 200, "{}", patched.1);
        std::mem::take(&mut *kv.nodes_written.lock().expect("whole"))
    };
    assert_eq!(told(1, "True").await.last(), Some(&Durability::Durable));
    assert_eq!(told(2, "True").await, [Durability::Relaxed]);
    assert_eq!(told(3, "False").await, [Durability::Durable]);
    let (code, found) = admin.call("GET", "/api/v1/nodes/n", Value::Null).await;
    assert_eq!(code, 200);
    let condition = &found["status"]["conditions"][0];
    assert_eq!(condition["lastHeartbeatTime"], "2026-01-01T00:03:00Z");
}

//! The pods of this node by UID: their workers' inboxes, and what their workers said last.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{ObjectKey, Quantity};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use semantics::resources::{Amounts, pod_requests};
use tokio::sync::Notify;

use crate::pods::Inputs;
use crate::pods::facts::spec;
use crate::worker::{Phase, WorkerView};

/// One pod of the node.
#[derive(Clone)]
pub(crate) struct PodHandle {
    pub(crate) inputs: Arc<Inputs>,
    pub(crate) view: Arc<Mutex<WorkerView>>,
}

impl PodHandle {
    /// The pod with the status its worker computed last.
    pub(crate) fn pod(&self) -> Option<Pod> {
        let wanted = self.inputs.wanted();
        let mut pod: Pod = wanted.object.decode().ok()?;
        let status = Arc::clone(&self.view.lock().status);
        if let Ok(status) = apimachinery::from_json(&status) {
            pod.status = Some(status);
        }
        Some(pod)
    }

    /// Whether the pod still uses, or will use, what it asks for.
    pub(crate) fn is_active(&self) -> bool {
        self.view
            .lock()
            .phase
            .is_none_or(|phase| phase < Phase::Terminated)
    }
}

#[derive(Default)]
pub(crate) struct PodTable {
    pods: Mutex<BTreeMap<String, PodHandle>>,
    removed: Notify,
}

impl PodTable {
    pub(crate) fn get(&self, uid: &str) -> Option<PodHandle> {
        self.pods.lock().get(uid).cloned()
    }

    pub(crate) fn find(&self, key: &ObjectKey) -> Option<PodHandle> {
        let pods = self.pods.lock();
        let named = pods
            .values()
            .filter(|pod| pod.inputs.wanted().object.index.key == *key);
        // Of two pods of one name, one is going away.
        named.max_by_key(|pod| pod.is_active()).cloned()
    }

    pub(crate) fn insert(&self, uid: &str, handle: PodHandle) {
        self.pods.lock().insert(uid.to_owned(), handle);
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.pods.lock().remove(uid);
        self.removed.notify_one();
    }

    /// Returns when a pod was removed; for one waiter, cancel safe.
    pub(crate) async fn removed(&self) {
        self.removed.notified().await;
    }

    pub(crate) fn all(&self) -> Vec<PodHandle> {
        self.pods.lock().values().cloned().collect()
    }

    /// What the other active pods leave of `allocatable`.
    pub(crate) fn free_for(&self, uid: &str, allocatable: &Amounts) -> Amounts {
        let mut free = allocatable.clone();
        let others = self
            .pods
            .lock()
            .iter()
            .filter(|(other, _)| *other != uid)
            .map(|(_, pod)| pod.clone())
            .collect::<Vec<_>>();
        for pod in others.iter().filter(|pod| pod.is_active()) {
            let Some(pod) = pod.pod() else { continue };
            for (name, amount) in pod_requests(spec(&pod)) {
                let left = free.get(&name).copied().unwrap_or(Quantity::ZERO);
                free.insert(name, left.saturating_sub(amount));
            }
        }
        free
    }
}

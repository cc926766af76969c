//! Deletes objects whose owners are gone, and carries out foreground and orphaning deletions, for every resource there is.
//!
//! Resources are known only at run time, so that this is no `Controller`; it uses the same queue and the shared caches. What to
//! do about an object is decided purely (`decide`) from its live state and that of its owners; caches only say where to look.

mod decide;
mod graph;
mod monitors;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ApiError, Object, ObjectKey, OwnerReference};
use controller::{Manager, Queue};
use futures_util::future::join_all;
use kube_client::{Client, ClientError, DeleteOptions, DynamicApi, Patch, Propagation};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use decide::{Decision, OwnerState, decide};
use graph::{Graph, Node};
use monitors::Monitors;

pub(crate) const NAME: &str = "generic-garbage-collector";

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// Objects worked on at once.
const CONCURRENT_TURNS: usize = 20;
/// Owners known to be gone, so that a thousand dependents do not ask a thousand times.
const ABSENT_OWNERS_MAX: usize = 500;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_mins(1);
/// An owner that exists but has not arrived in a cache is looked for again.
const UNSEEN_OWNER_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Collector {
    client: Client,
    graph: Arc<Graph>,
    monitors: Monitors,
    queue: Arc<Queue<String>>,
    absent: Mutex<VecDeque<AbsentOwner>>,
    failures: Mutex<std::collections::BTreeMap<String, u32>>,
}

#[derive(Clone, PartialEq, Eq)]
struct AbsentOwner {
    namespace: String,
    owner: (String, String, String, String),
}

/// Runs until the manager's end is asked for.
pub(crate) fn start(manager: &Manager) {
    let queue = Arc::new(Queue::default());
    let client = manager.client_as(NAME);
    let graph = Arc::new(Graph::new(Arc::clone(&queue)));
    let collector = Arc::new(Collector {
        monitors: Monitors::new(
            client.clone(),
            manager.factory().clone(),
            Arc::clone(&graph),
        ),
        client,
        graph,
        queue,
        absent: Mutex::default(),
        failures: Mutex::default(),
    });
    let shutdown = manager.shutdown().clone();
    env::spawn(async move {
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = collector.run() => {}
        }
    });
}

impl Collector {
    async fn run(self: &Arc<Self>) {
        let resync = self.monitors.follow_discovery();
        let work = async {
            self.monitors.wait_for_first_sync().await;
            let turns = Arc::new(Semaphore::new(CONCURRENT_TURNS));
            loop {
                let uid = self.queue.next().await;
                let Ok(permit) = Arc::clone(&turns).acquire_owned().await else {
                    return;
                };
                let collector = Arc::clone(self);
                env::spawn(async move {
                    collector.turn(&uid).await;
                    drop(permit);
                });
            }
        };
        tokio::join!(resync, work);
    }

    async fn turn(self: &Arc<Self>, uid: &str) {
        let result = match self.graph.node(uid) {
            Some(node) => self.attempt(&node).await,
            None => Ok(None),
        };
        match result {
            Ok(again) => {
                self.failures.lock().remove(uid);
                if let Some(delay) = again {
                    self.queue.add_after(uid.to_owned(), delay);
                }
            }
            Err(error) => {
                tracing::debug!(uid, %error, "garbage collection of an object failed");
                let mut failures = self.failures.lock();
                let count = failures.entry(uid.to_owned()).or_insert(0);
                *count += 1;
                let delay = RETRY_FIRST
                    .saturating_mul(1 << (*count - 1).min(12))
                    .min(RETRY_MAX);
                self.queue.add_after(uid.to_owned(), delay);
            }
        }
        self.queue.done(&uid.to_owned());
    }

    fn api(&self, node: &Node) -> DynamicApi {
        self.client
            .dynamic(node.resource.resource.clone(), &node.index.key.namespace)
    }

    /// One object: its own foreground or orphaning deletion, or whether its owners still hold it.
    async fn attempt(&self, node: &Node) -> Result<Option<Duration>, ClientError> {
        if node.is_orphaning() {
            self.orphan_dependents(node).await?;
            return self.remove_finalizer(node, ORPHAN).await.map(|()| None);
        }
        if node.is_deleting_dependents() {
            let blocking = self.graph.blocking_dependents(&node.index.uid);
            if blocking.is_empty() {
                return self.remove_finalizer(node, FOREGROUND).await.map(|()| None);
            }
            let waiting = blocking
                .iter()
                .filter(|dependent| !dependent.is_deleting_dependents());
            waiting.for_each(|dependent| self.queue.add(dependent.index.uid.clone()));
            return Ok(None);
        }
        if node.index.is_being_deleted || node.index.owners.is_empty() {
            return Ok(None);
        }
        let live = match self.api(node).get(&node.index.key.name).await {
            Ok(live) if live.uid() == node.index.uid => live,
            // Gone, or another one of the same name: the cache will say so.
            Ok(_) => return Ok(None),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let references = live.owner_references();
        let states = join_all(references.iter().map(|owner| self.owner_state(node, owner))).await;
        let mut owners = Vec::with_capacity(references.len());
        for (reference, state) in references.into_iter().zip(states) {
            match state? {
                // A cluster-wide object cannot be owned by a namespaced one; nobody may lose it for that mistake.
                None => return Ok(None),
                Some(state) => owners.push((reference, state)),
            }
        }
        let is_unseen = owners.iter().any(|(owner, state)| {
            *state == OwnerState::Solid && !self.monitors.has_seen(owner, &node.index.key.namespace)
        });
        let dependents = self.graph.dependents(&node.index.uid);
        let decision = decide(&live, &owners, &dependents);
        self.carry_out(node, &live, decision).await?;
        Ok(is_unseen.then_some(UNSEEN_OWNER_AFTER))
    }

    /// What has become of an owner, asked live; `None` if the reference can mean nothing.
    async fn owner_state(
        &self,
        node: &Node,
        owner: &OwnerReference,
    ) -> Result<Option<OwnerState>, ClientError> {
        let Some(kind) = self.monitors.resource_of(owner) else {
            let why = format!(
                "no resource serves kind {} of {}",
                owner.kind, owner.api_version
            );
            return Err(ApiError::service_unavailable(why).into());
        };
        let item_namespace = &node.index.key.namespace;
        if kind.is_namespaced && item_namespace.is_empty() {
            return Ok(None);
        }
        let namespace = if kind.is_namespaced {
            item_namespace.clone()
        } else {
            String::new()
        };
        let identity = AbsentOwner {
            namespace: namespace.clone(),
            owner: (
                owner.api_version.clone(),
                owner.kind.clone(),
                owner.name.clone(),
                owner.uid.clone(),
            ),
        };
        if self.absent.lock().contains(&identity) {
            return Ok(Some(OwnerState::Absent));
        }
        let live = match self
            .client
            .dynamic(kind.resource.clone(), &namespace)
            .get(&owner.name)
            .await
        {
            Ok(live) if live.uid() == owner.uid => live,
            Ok(_) => return Ok(Some(self.note_absent(identity))),
            Err(error) if error.is_not_found() => return Ok(Some(self.note_absent(identity))),
            Err(error) => return Err(error),
        };
        let waits = live.is_being_deleted() && live.finalizers().contains(&FOREGROUND);
        Ok(Some(if waits {
            OwnerState::WaitingForDependents
        } else {
            OwnerState::Solid
        }))
    }

    fn note_absent(&self, owner: AbsentOwner) -> OwnerState {
        let mut absent = self.absent.lock();
        if absent.len() >= ABSENT_OWNERS_MAX {
            absent.pop_front();
        }
        absent.push_back(owner);
        OwnerState::Absent
    }

    async fn carry_out(
        &self,
        node: &Node,
        live: &Object,
        decision: Decision,
    ) -> Result<(), ClientError> {
        let version = live.resource_version();
        match decision {
            Decision::Keep => Ok(()),
            Decision::KeepWith(references) => {
                let metadata = json!({"resourceVersion": version, "ownerReferences": references});
                self.patch(node, metadata).await
            }
            Decision::Delete(propagation) => self.delete(node, live, propagation).await,
            Decision::UnblockAndDelete(references) => {
                let metadata = json!({"resourceVersion": version, "ownerReferences": references});
                self.patch(node, metadata).await?;
                let unversioned = DeleteOptions {
                    propagation: Some(Propagation::Foreground),
                    ..DeleteOptions::only(node.index.uid.clone())
                };
                ignore_gone(
                    self.api(node)
                        .delete(&node.index.key.name, &unversioned)
                        .await,
                )
            }
        }
    }

    /// Only this version of it: a new owner reference must not be overlooked.
    async fn delete(
        &self,
        node: &Node,
        live: &Object,
        propagation: Propagation,
    ) -> Result<(), ClientError> {
        let options = DeleteOptions {
            propagation: Some(propagation),
            resource_version: Some(live.resource_version().to_owned()),
            ..DeleteOptions::only(node.index.uid.clone())
        };
        ignore_gone(self.api(node).delete(&node.index.key.name, &options).await)
    }

    async fn patch(&self, node: &Node, metadata: Value) -> Result<(), ClientError> {
        let patch = Patch::Merge(json!({"metadata": metadata}));
        ignore_gone(self.api(node).patch(&node.index.key.name, &patch).await)
    }

    async fn orphan_dependents(&self, owner: &Node) -> Result<(), ClientError> {
        let dependents = self.graph.dependents(&owner.index.uid);
        let freed = dependents
            .iter()
            .map(|dependent| self.free(dependent, &owner.index.uid));
        join_all(freed).await.into_iter().collect()
    }

    /// Takes an owner from a dependent.
    async fn free(&self, dependent: &Node, owner_uid: &str) -> Result<(), ClientError> {
        let live = match self.api(dependent).get(&dependent.index.key.name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let kept: Vec<OwnerReference> = live
            .owner_references()
            .into_iter()
            .filter(|owner| owner.uid != owner_uid)
            .collect();
        if live.uid() != dependent.index.uid || kept.len() == live.owner_references().len() {
            return Ok(());
        }
        let metadata = json!({
            "uid": live.uid(), "resourceVersion": live.resource_version(), "ownerReferences": kept,
        });
        self.patch(dependent, metadata).await
    }

    async fn remove_finalizer(&self, node: &Node, finalizer: &str) -> Result<(), ClientError> {
        let live = match self.api(node).get(&node.index.key.name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let kept: Vec<&str> = live
            .finalizers()
            .into_iter()
            .filter(|one| *one != finalizer)
            .collect();
        if live.uid() != node.index.uid || kept.len() == live.finalizers().len() {
            return Ok(());
        }
        let metadata = json!({"resourceVersion": live.resource_version(), "finalizers": kept});
        self.patch(node, metadata).await
    }
}

fn ignore_gone<T>(result: Result<T, ClientError>) -> Result<(), ClientError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Where an owner of this key would be.
pub(super) fn owner_key(owner: &OwnerReference, namespace: &str) -> ObjectKey {
    ObjectKey::namespaced(namespace, owner.name.clone())
}

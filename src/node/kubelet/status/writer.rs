//! Writes one pod's status: only the newest wanted one, only what differs, only to the pod with the same UID.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{Object, StoredObject};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube_client::{Client, ClientError, DeleteOptions, Patch};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, Semaphore};

use crate::pods::facts::is_terminal;
use crate::status::conditions::OWNED;
use crate::status::patch::status_patch;

/// A condition that the kubelet sets, and others too.
const SHARED: &str = "DisruptionTarget";
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Status writes of one node at a time.
pub(crate) const WRITES_MAX: usize = 8;

/// What the API should say of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// As JSON bytes.
    pub(crate) status: Arc<[u8]>,
    /// Nothing is left of the pod on the node: once the status is written, a pod being deleted may go.
    pub(crate) is_finished: bool,
}

impl Report {
    pub(crate) fn new(status: &PodStatus, is_finished: bool) -> Self {
        let status = serde_json::to_vec(status).expect("a status is plain data");
        Self {
            status: status.into(),
            is_finished,
        }
    }
}

/// Hands reports to the task that writes them; dropping it ends the task.
#[derive(Debug)]
pub(crate) struct StatusWriter {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Slot {
    report: Option<Report>,
    /// The pod as the API has it, by the newest revision that was seen.
    known: Option<StoredObject>,
    is_closed: bool,
}

struct Task {
    shared: Arc<Shared>,
    client: Client,
    writes: Arc<Semaphore>,
}

/// What to do next.
enum Step {
    Patch(Value),
    Delete,
    Wait,
}

impl StatusWriter {
    pub(crate) fn spawn(client: Client, writes: Arc<Semaphore>) -> Self {
        let shared = Arc::new(Shared::default());
        env::spawn(
            Task {
                shared: Arc::clone(&shared),
                client,
                writes,
            }
            .run(),
        );
        Self { shared }
    }

    pub(crate) fn report(&self, report: Report) {
        self.shared.slot.lock().report = Some(report);
        self.shared.changed.notify_one();
    }

    /// The pod in the API (for a static pod: its mirror) has changed.
    pub(crate) fn saw(&self, object: &StoredObject) {
        self.shared.learn(object.clone());
        self.shared.changed.notify_one();
    }
}

impl Drop for StatusWriter {
    fn drop(&mut self) {
        self.shared.slot.lock().is_closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn learn(&self, object: StoredObject) {
        let mut slot = self.slot.lock();
        let is_newer = slot.known.as_ref().is_none_or(|known| {
            known.index.uid != object.index.uid || known.revision <= object.revision
        });
        if is_newer {
            slot.known = Some(object);
        }
    }
}

impl Task {
    async fn run(self) {
        let mut retry = RETRY_FIRST;
        // The server may store a status otherwise than it was sent; sending it again would never end.
        let mut sent: Option<(Value, i64)> = None;
        loop {
            let (report, known) = {
                let slot = self.shared.slot.lock();
                if slot.is_closed {
                    return;
                }
                (slot.report.clone(), slot.known.clone())
            };
            let step = match (&report, &known) {
                (Some(report), Some(known)) => next_step(report, known, sent.as_ref()),
                _ => Step::Wait,
            };
            let Some(known) = known else {
                self.shared.changed.notified().await;
                continue;
            };
            let done = match step {
                Step::Wait => {
                    self.shared.changed.notified().await;
                    retry = RETRY_FIRST;
                    continue;
                }
                Step::Patch(patch) => self
                    .patch(&known, patch.clone())
                    .await
                    .map(|at| sent = Some((patch, at))),
                Step::Delete => self.delete(&known).await,
            };
            match done {
                Ok(()) => retry = RETRY_FIRST,
                Err(error) if error.is_not_found() || error.is_conflict() => {
                    // The pod is gone or another one has its name: the watch tells.
                    self.shared.changed.notified().await;
                }
                Err(error) => {
                    tracing::debug!(pod = %known.key(), %error, "a pod's status is not written yet");
                    env::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// The revision of the write.
    async fn patch(&self, known: &StoredObject, patch: Value) -> Result<i64, ClientError> {
        let _slot = self
            .writes
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let api = self.client.api::<Pod>(&known.key().namespace);
        let written: Object = api
            .dynamic()
            .patch_status(&known.key().name, &Patch::Strategic(patch))
            .await?;
        let revision = written.resource_version().parse().unwrap_or(known.revision);
        let bytes = serde_json::to_vec(&written)
            .map_err(|error| ClientError::Malformed(error.to_string()))?;
        let object = StoredObject::new(bytes.into(), revision)
            .map_err(|error| ClientError::Malformed(error.to_string()))?;
        self.shared.learn(object);
        Ok(revision)
    }

    async fn delete(&self, known: &StoredObject) -> Result<(), ClientError> {
        let _slot = self
            .writes
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::only(known.index.uid.clone())
        };
        let api = self.client.api::<Pod>(&known.key().namespace);
        api.delete(&known.key().name, &options).await?;
        // Finalizers may hold it; the next change of the pod brings us back.
        self.shared.changed.notified().await;
        Ok(())
    }
}

/// `sent`: the last patch and the revision it made. The server may store a status otherwise than it was sent: that patch is done.
fn next_step(report: &Report, known: &StoredObject, sent: Option<&(Value, i64)>) -> Step {
    let Ok(object) = known.to_object() else {
        return Step::Wait;
    };
    let none = Value::Null;
    let api = object.at(&["status"]).unwrap_or(&none);
    // A terminal phase is final, whoever wrote it.
    let mut wanted: Value =
        serde_json::from_slice(&report.status).expect("it was made of a status");
    if let Some(phase) = api["phase"]
        .as_str()
        .filter(|phase| is_terminal(Some(phase)))
    {
        wanted["phase"] = phase.into();
    }
    if let Some(conditions) = wanted["conditions"].as_array_mut() {
        conditions.retain(|condition| {
            condition["type"]
                .as_str()
                .is_some_and(|kind| OWNED.contains(&kind) || kind == SHARED)
        });
    }
    if let Some(patch) = status_patch(&known.index.uid, api, &wanted, &OWNED) {
        let is_done = sent.is_some_and(|(last, at)| *last == patch && *at == known.revision);
        if !is_done {
            return Step::Patch(patch);
        }
    }
    let is_mirror = object
        .annotation(crate::pods::facts::CONFIG_MIRROR)
        .is_some();
    if report.is_finished && known.index.is_being_deleted && !is_mirror {
        return Step::Delete;
    }
    Step::Wait
}

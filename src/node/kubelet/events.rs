//! Events about pods and the node: handed over without waiting, repeated ones counted instead of written again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use env::{Clock, Rng, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube_client::{Client, ClientError, Patch};
use serde_json::json;
use tokio::sync::mpsc;

use crate::pods::facts::{ContainerKind, name, namespace, uid};

/// Events that wait for the API; more are dropped.
const EVENTS_WAITING_MAX: usize = 1000;
/// While no API server answers, events wait, and the first of them is tried again after this time, doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Different events that are remembered for counting.
const EVENTS_REMEMBERED_MAX: usize = 1024;
/// A message longer than this is cut: bytes.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Events of one object: this many at once, and one more each `REFILL_SECONDS`.
const BURST_MAX: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Takes events from everywhere in the kubelet. Cloning it shares the queue.
#[derive(Clone, Debug)]
pub(crate) struct EventRecorder {
    queue: mpsc::Sender<Told>,
}

#[derive(Debug)]
struct Told {
    about: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
}

/// Writes the events of a recorder; run it as a task.
pub(crate) struct EventWriter {
    queue: mpsc::Receiver<Told>,
    client: Client,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    node_name: String,
    remembered: BTreeMap<Key, Remembered>,
    budgets: BTreeMap<String, (f64, Timestamp)>,
}

type Key = (String, String, Severity, String, String);

struct Remembered {
    name: String,
    count: i32,
    last: Timestamp,
}

pub(crate) fn event_channel(
    client: Client,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    node_name: &str,
) -> (EventRecorder, EventWriter) {
    let (sender, queue) = mpsc::channel(EVENTS_WAITING_MAX);
    let writer = EventWriter {
        queue,
        client,
        clock,
        rng,
        node_name: node_name.to_owned(),
        remembered: BTreeMap::new(),
        budgets: BTreeMap::new(),
    };
    (EventRecorder { queue: sender }, writer)
}

impl EventRecorder {
    pub(crate) fn pod(
        &self,
        pod: &Pod,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.tell(pod_reference(pod), severity, reason, message.into());
    }

    pub(crate) fn container(
        &self,
        pod: &Pod,
        (kind, container): (ContainerKind, &str),
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        let list = match kind {
            ContainerKind::Init => "initContainers",
            ContainerKind::Regular => "containers",
            ContainerKind::Ephemeral => "ephemeralContainers",
        };
        let field_path = Some(format!("spec.{list}{{{container}}}"));
        self.tell(
            ObjectReference {
                field_path,
                ..pod_reference(pod)
            },
            severity,
            reason,
            message.into(),
        );
    }

    pub(crate) fn node(
        &self,
        node_name: &str,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node_name.to_owned()),
            // Upstream's kubelet names the node by its name here, and `kubectl describe node` looks for that.
            uid: Some(node_name.to_owned()),
            ..ObjectReference::default()
        };
        self.tell(about, severity, reason, message.into());
    }

    fn tell(&self, about: ObjectReference, severity: Severity, reason: &str, mut message: String) {
        if message.len() > MESSAGE_BYTES_MAX {
            let cut = (0..=MESSAGE_BYTES_MAX)
                .rev()
                .find(|at| message.is_char_boundary(*at))
                .unwrap_or(0);
            message.truncate(cut);
        }
        let told = Told {
            about,
            severity,
            reason: reason.to_owned(),
            message,
        };
        if let Err(error) = self.queue.try_send(told) {
            tracing::debug!(%error, "an event is dropped");
        }
    }
}

fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name(pod).to_owned()),
        namespace: Some(namespace(pod).to_owned()),
        uid: Some(uid(pod).to_owned()),
        resource_version: pod.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

fn dropped_unless_silent(error: ClientError) -> Result<(), ClientError> {
    if matches!(error, ClientError::Unreachable(_)) {
        return Err(error);
    }
    tracing::debug!(%error, "an event is dropped");
    Ok(())
}

impl EventWriter {
    /// Runs until every recorder is gone.
    pub(crate) async fn run(mut self) {
        while let Some(told) = self.queue.recv().await {
            self.write(told).await;
        }
    }

    async fn write(&mut self, told: Told) {
        let now = self.clock.now();
        let about_uid = told.about.uid.clone().unwrap_or_default();
        if !self.may_tell(&about_uid, now) {
            return;
        }
        let path = told.about.field_path.clone().unwrap_or_default();
        let key = (
            about_uid,
            path,
            told.severity,
            told.reason.clone(),
            told.message.clone(),
        );
        let namespace = told
            .about
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        let mut wait = RETRY_FIRST;
        while let Err(error) = self.write_once(&told, &key, &namespace, now).await {
            tracing::debug!(%error, reason = told.reason, "an event is not written yet");
            env::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// An error is a server's silence; what a server refuses is dropped.
    async fn write_once(
        &mut self,
        told: &Told,
        key: &Key,
        namespace: &str,
        now: Timestamp,
    ) -> Result<(), ClientError> {
        let api = self.client.api::<Event>(namespace);
        if let Some(known) = self.remembered.get_mut(key) {
            let count = known.count + 1;
            let counted = json!({"count": count, "lastTimestamp": now.to_seconds_string()});
            match api.patch(&known.name, &Patch::Strategic(counted)).await {
                Ok(_) => {
                    (known.count, known.last) = (count, now);
                    return Ok(());
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return dropped_unless_silent(error),
            }
        }
        let event = self.event(told, namespace.to_owned(), now);
        let name = event.metadata.name.clone().unwrap_or_default();
        if let Err(error) = api.create(&event).await {
            return dropped_unless_silent(error);
        }
        let known = Remembered {
            name,
            count: 1,
            last: now,
        };
        self.remember(key.clone(), known);
        Ok(())
    }

    fn may_tell(&mut self, uid: &str, now: Timestamp) -> bool {
        if self.budgets.len() >= EVENTS_REMEMBERED_MAX {
            self.budgets.retain(|_, (left, _)| *left < BURST_MAX / 2.0);
            if self.budgets.len() >= EVENTS_REMEMBERED_MAX {
                self.budgets.clear();
            }
        }
        let (left, since) = self
            .budgets
            .entry(uid.to_owned())
            .or_insert((BURST_MAX, now));
        *left =
            (*left + now.saturating_since(*since).as_secs_f64() / REFILL_SECONDS).min(BURST_MAX);
        *since = now;
        let may = *left >= 1.0;
        if may {
            *left -= 1.0;
        }
        may
    }

    fn remember(&mut self, key: Key, remembered: Remembered) {
        if self.remembered.len() >= EVENTS_REMEMBERED_MAX {
            let oldest = self
                .remembered
                .iter()
                .min_by_key(|(_, known)| known.last)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.remembered.remove(&oldest);
            }
        }
        self.remembered.insert(key, remembered);
    }

    fn event(&self, told: &Told, namespace: String, now: Timestamp) -> Event {
        let about = told.about.name.as_deref().unwrap_or_default();
        let time = Time(crate::time::whole_seconds(now).to_jiff());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{about}.{:016x}", self.rng.next_u64())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: told.about.clone(),
            reason: Some(told.reason.clone()),
            message: Some(told.message.clone()),
            type_: Some(told.severity.as_str().to_owned()),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node_name.clone()),
            }),
            first_timestamp: Some(time.clone()),
            last_timestamp: Some(time),
            count: Some(1),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node_name.clone()),
            ..Event::default()
        }
    }
}

//! Tells people what happened, as core/v1 Events: a repeated event is counted, many similar ones are combined, and an object
//! that causes too many is cut off, so that events never become the load.

mod correlator;

use std::collections::VecDeque;
use std::sync::Arc;

use apimachinery::{Object, StoredObject};
use env::Clock;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Event as CoreEvent, ObjectReference};
use kube_client::{Client, Patch, resource_of};
use parking_lot::Mutex;
use serde_json::json;

use correlator::{Correlator, Verdict};

/// Events waiting to be written; more are dropped, as an event is a hint and no record.
const EVENTS_WAITING_MAX: usize = 1000;
const MESSAGE_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub regarding: ObjectReference,
    pub event_type: EventType,
    /// One word in `UpperCamelCase`.
    pub reason: String,
    pub message: String,
}

/// What an event about this object refers to.
pub fn regarding<K: Resource>(object: &StoredObject) -> ObjectReference {
    let key = object.key();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: Some(key.name.clone()),
        namespace: Some(key.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        resource_version: Some(object.revision.to_string()),
        uid: Some(object.index.uid.clone()),
        field_path: None,
    }
}

/// Writes events of one component, in the background.
pub struct EventRecorder {
    client: Client,
    component: String,
    host: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Event>,
    is_writing: bool,
    correlator: Correlator,
}

impl std::fmt::Debug for EventRecorder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EventRecorder")
            .field("component", &self.component)
            .finish_non_exhaustive()
    }
}

impl EventRecorder {
    /// `host` is the node the component runs on; empty for the control plane's.
    pub fn new(client: Client, component: &str, host: &str, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            client,
            component: component.to_owned(),
            host: host.to_owned(),
            clock,
            state: Mutex::default(),
        })
    }

    /// Returns at once; the event is written by a task that ends when nothing waits. Must be called within a runtime.
    pub fn emit(self: &Arc<Self>, event: Event) {
        let mut state = self.state.lock();
        if state.waiting.len() >= EVENTS_WAITING_MAX {
            tracing::warn!(
                component = self.component,
                reason = event.reason,
                "too many events are waiting: dropped"
            );
            return;
        }
        state.waiting.push_back(event);
        if !std::mem::replace(&mut state.is_writing, true) {
            let recorder = Arc::clone(self);
            env::spawn(async move { recorder.write_all().await });
        }
    }

    async fn write_all(&self) {
        loop {
            let (event, verdict) = {
                let mut state = self.state.lock();
                let Some(event) = state.waiting.pop_front() else {
                    state.is_writing = false;
                    return;
                };
                let verdict = state.correlator.judge(&event, self.clock.now());
                (event, verdict)
            };
            match verdict {
                Verdict::Drop => {}
                Verdict::Create { key, message } => self.create(&event, &key, message).await,
                Verdict::Count {
                    key,
                    name,
                    count,
                    message,
                } => {
                    self.count(&event, &key, &name, count, message).await;
                }
            }
        }
    }

    async fn create(&self, event: &Event, key: &str, mut message: String) {
        let now = self.clock.now();
        let involved = event.regarding.name.clone().unwrap_or_default();
        let name = format!("{involved}.{:x}", now.unix_nanoseconds());
        let namespace = namespace_of(event);
        truncate(&mut message);
        let time = now.to_seconds_string();
        let object = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": event.regarding,
            "reason": event.reason, "message": message, "type": event.event_type.as_str(),
            "source": self.source(),
            "firstTimestamp": time, "lastTimestamp": time, "count": 1, "eventTime": null,
            "reportingComponent": self.component, "reportingInstance": self.host,
        });
        let object = Object::from_value(object).expect("it is an object");
        match self
            .client
            .dynamic(resource_of::<CoreEvent>(), &namespace)
            .create(&object)
            .await
        {
            Ok(_created) => self.state.lock().correlator.written(key, name, now),
            Err(error) => {
                tracing::debug!(reason = event.reason, %error, "an event was not written");
            }
        }
    }

    async fn count(&self, event: &Event, key: &str, name: &str, count: u32, mut message: String) {
        truncate(&mut message);
        let patch = json!({
            "count": count, "message": message,
            "lastTimestamp": self.clock.now().to_seconds_string(),
        });
        let api = self
            .client
            .dynamic(resource_of::<CoreEvent>(), &namespace_of(event));
        match api.patch(name, &Patch::Merge(patch)).await {
            Ok(_patched) => {}
            // Events expire; the next one begins anew.
            Err(error) if error.is_not_found() => self.create(event, key, message).await,
            Err(error) => {
                tracing::debug!(reason = event.reason, %error, "an event was not counted");
            }
        }
    }

    fn source(&self) -> serde_json::Value {
        if self.host.is_empty() {
            json!({"component": self.component})
        } else {
            json!({"component": self.component, "host": self.host})
        }
    }
}

/// Events about cluster-wide objects live in `default`.
fn namespace_of(event: &Event) -> String {
    event
        .regarding
        .namespace
        .clone()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| "default".into())
}

fn truncate(message: &mut String) {
    if message.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX)
            .rev()
            .find(|end| message.is_char_boundary(*end))
            .unwrap_or(0);
        message.truncate(end);
    }
}

//! Deletes pods from nodes with `NoExecute` taints when their tolerations run out.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ObjectKey, StoredObject};
use controller::{Action, Controller, Event, EventType, Past, Plan, Wakes, regarding};
use env::Timestamp;
use informer::{Cache, Change, Factory, NODE_NAME};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Taint, Toleration};
use kube_client::{Patch, resource_of};
use semantics::taints::{NO_EXECUTE, Stay, stay};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::conditions::Condition;

pub(crate) struct TaintEviction {
    pods: Arc<Cache>,
    nodes: Arc<Cache>,
}

/// The part of a node that taints concern.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NodeTaints {
    #[serde(default)]
    pub(crate) spec: NodeTaintsSpec,
    #[serde(default)]
    pub(crate) status: NodeConditions,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeTaintsSpec {
    pub(crate) unschedulable: bool,
    pub(crate) taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeConditions {
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Tolerating {
    #[serde(default)]
    spec: TolerationsSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TolerationsSpec {
    tolerations: Vec<Toleration>,
}

pub(crate) struct View {
    key: ObjectKey,
    uid: String,
    regarding: ObjectReference,
    stay: Stay,
    /// How long ago the pod was first seen to have to go; `None`: it has not been before this turn.
    waited: Option<Duration>,
    /// It had to go until now.
    is_pardoned: bool,
}

impl TaintEviction {
    pub(crate) fn new(factory: &Factory) -> Self {
        let pods = factory.all::<Pod>();
        pods.add_index(NODE_NAME);
        Self {
            pods,
            nodes: factory.all::<Node>(),
        }
    }
}

fn no_execute_taints(node: Option<&StoredObject>) -> Vec<Taint> {
    let taints = node
        .and_then(|node| node.decode::<NodeTaints>().ok())
        .map(|node| node.spec.taints);
    taints
        .into_iter()
        .flatten()
        .filter(|taint| taint.effect == NO_EXECUTE)
        .collect()
}

fn is_moved(change: &Change) -> bool {
    let node = |pod: &Option<StoredObject>| pod.as_ref().map(NODE_NAME.values);
    let tolerations = |pod: &Option<StoredObject>| {
        pod.as_ref()
            .and_then(|pod| pod.decode::<Tolerating>().ok())
            .map(|pod| pod.spec.tolerations)
    };
    node(&change.old) != node(&change.new) || tolerations(&change.old) != tolerations(&change.new)
}

impl Controller for TaintEviction {
    type View = View;
    /// When the pod was first seen to have to go.
    type Memory = Option<Duration>;
    /// Upstream gives it the node controller's rights.
    const NAME: &'static str = "node-controller";
    const EVENT_SOURCE: &'static str = "taint-eviction-controller";

    fn wakes(&self, on: &mut Wakes) {
        let nodes = Arc::clone(&self.nodes);
        on.mapped(&self.pods, move |change| {
            let Some(pod) = &change.new else {
                return vec![change.key().clone()];
            };
            let node = (NODE_NAME.values)(pod).pop().unwrap_or_default();
            // Most nodes have no such taint, and most pods nothing to do here.
            let is_tainted =
                !no_execute_taints(nodes.get(&ObjectKey::cluster(node)).as_ref()).is_empty();
            (is_tainted && is_moved(change))
                .then(|| pod.key().clone())
                .into_iter()
                .collect()
        });
        let pods = Arc::clone(&self.pods);
        on.mapped(&self.nodes, move |change| {
            if no_execute_taints(change.old.as_ref()) == no_execute_taints(change.new.as_ref()) {
                return Vec::new();
            }
            let pods = pods.find(&NODE_NAME, &change.key().name).into_iter();
            pods.map(|pod| pod.key().clone()).collect()
        });
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, Option<Duration>>) -> Option<View> {
        let pod = self
            .pods
            .get(key)
            .filter(|pod| !pod.index.is_being_deleted)?;
        let node = (NODE_NAME.values)(&pod).pop().unwrap_or_default();
        let taints = no_execute_taints(self.nodes.get(&ObjectKey::cluster(node)).as_ref());
        let tolerations = pod.decode::<Tolerating>().ok()?.spec.tolerations;
        let stay = stay(&taints, &tolerations);
        let since = *past.memory;
        match stay {
            Stay::Forever => *past.memory = None,
            Stay::For(_) | Stay::Leave => {
                past.memory.get_or_insert(past.monotonic);
            }
        }
        Some(View {
            key: key.clone(),
            uid: pod.index.uid.clone(),
            regarding: regarding::<Pod>(&pod),
            stay,
            waited: past
                .memory
                .map(|since| past.monotonic.saturating_sub(since)),
            is_pardoned: since.is_some() && stay == Stay::Forever,
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        match view.stay {
            Stay::Forever if view.is_pardoned => {
                Plan::of(vec![view.event("Cancelling deletion of Pod")])
            }
            Stay::Forever => Plan::nothing(),
            Stay::Leave => view.evict(now),
            Stay::For(span) => {
                let waited = view.waited.unwrap_or_default();
                match span.checked_sub(waited).filter(|left| !left.is_zero()) {
                    Some(left) => Plan {
                        again_after: Some(left),
                        ..Plan::nothing()
                    },
                    None => view.evict(now),
                }
            }
        }
    }
}

impl View {
    fn event(&self, what: &str) -> Action {
        Action::Emit(Event {
            regarding: self.regarding.clone(),
            event_type: EventType::Normal,
            reason: "TaintManagerEviction".into(),
            message: format!("{what} {}", self.key),
        })
    }

    fn evict(&self, now: Timestamp) -> Plan {
        let status = disruption(
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
            now,
        );
        Plan::of(vec![
            self.event("Marking for deletion Pod"),
            Action::Sequence(vec![
                Action::Patch {
                    resource: resource_of::<Pod>(),
                    key: self.key.clone(),
                    subresource: "status",
                    patch: Patch::Strategic(status),
                },
                Action::delete::<Pod>(self.key.clone(), self.uid.clone()),
            ]),
        ])
    }
}

/// A strategic patch of a pod's status that says who is about to end it (KEP-3329).
pub(crate) fn disruption(reason: &str, message: &str, now: Timestamp) -> Value {
    json!({"status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": now.to_seconds_string(),
    }]}})
}

//! Notices nodes whose kubelet has fallen silent, and taints nodes by their conditions.
//!
//! Silence is measured with this process' own monotonic clock from the moment a renewal was seen: nodes' clocks play no part.
//!
//! A node that an administrator labels `combo.io/autonomy=true` runs on by itself while nobody hears of it, and its pods are not moved away:
//! it gets no `NoExecute` taint. All else stays as it is for every node, since it is true: its conditions are unknown, nothing is
//! scheduled to it, and its pods count as not ready, so that the rest of the cluster sends them no traffic that cannot arrive. (The node
//! itself goes by what it remembers.) `NoExecute` taints that people set, and deletions that people ask for, hold there as anywhere.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ObjectKey, StoredObject};
use controller::{Action, Controller, Event, EventType, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory, NODE_NAME};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Taint};
use kube_client::{Patch, resource_of};
use semantics::taints::{
    DISK_PRESSURE, MEMORY_PRESSURE, NETWORK_UNAVAILABLE, NO_EXECUTE, NO_SCHEDULE, NOT_READY,
    PID_PRESSURE, UNREACHABLE, UNSCHEDULABLE,
};
use serde::Deserialize;
use serde_json::json;

use crate::conditions::{self, Condition};
use crate::pods::{PodFacts, facts};
use crate::taint_eviction::NodeTaints;

const LEASES_NAMESPACE: &str = "kube-node-lease";
/// A node that has been silent for this long is not known to be ready, unless somebody chose another span.
const GRACE: Duration = Duration::from_secs(50);
/// The same, for a node that has never said anything.
const STARTUP_GRACE: Duration = Duration::from_mins(1);
/// An administrator gives this label; nodes may set none under `combo.io` (NodeRestriction).
const AUTONOMY: &str = "combo.io/autonomy";
/// Conditions that become unknown with the node.
const WATCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub(crate) struct NodeLifecycle {
    nodes: Arc<Cache>,
    leases: Arc<Cache>,
    pods: Arc<Cache>,
    grace: Duration,
}

/// The last sign of life and when it was seen.
#[derive(Default)]
pub(crate) struct Seen {
    sign: String,
    at: Option<Duration>,
}

pub(crate) struct View {
    key: ObjectKey,
    uid: String,
    revision: i64,
    node: NodeTaints,
    autonomy: Autonomy,
    silent_for: Duration,
    /// How long it may be silent.
    grace: Duration,
    /// No node at all is ready: the fault is more likely here than everywhere else.
    is_everybody_lost: bool,
    ready_pods: Vec<PodFacts>,
}

/// What becomes of a node's pods while the node is not ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Autonomy {
    /// They are evicted when their tolerations run out.
    Evicted,
    /// They stay.
    Kept,
}

impl Autonomy {
    fn of(node: &StoredObject) -> Self {
        match node.index.label(AUTONOMY) {
            Some("true") => Self::Kept,
            _ => Self::Evicted,
        }
    }
}

#[derive(Deserialize)]
struct Renewal {
    spec: RenewalSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct RenewalSpec {
    renew_time: String,
}

impl NodeLifecycle {
    /// `grace`: how long a node may be silent, if it is not the usual time.
    pub(crate) fn new(factory: &Factory, grace: Option<Duration>) -> Self {
        let pods = factory.all::<Pod>();
        pods.add_index(NODE_NAME);
        Self {
            nodes: factory.all::<Node>(),
            leases: factory.all::<Lease>(),
            pods,
            grace: grace.unwrap_or(GRACE),
        }
    }

    /// What changes with every sign of life: the lease, or the time in the node's own status.
    fn sign_of_life(&self, name: &str, ready: Option<&Condition>) -> String {
        let lease = self
            .leases
            .get(&ObjectKey::namespaced(LEASES_NAMESPACE, name));
        let renewed = lease
            .and_then(|lease| lease.decode::<Renewal>().ok())
            .map(|lease| lease.spec.renew_time);
        let heartbeat = ready.and_then(|ready| ready.last_heartbeat_time.clone());
        format!(
            "{}/{}",
            renewed.unwrap_or_default(),
            heartbeat.unwrap_or_default()
        )
    }
}

fn is_ready(node: &StoredObject) -> bool {
    node.decode::<NodeTaints>()
        .is_ok_and(|node| conditions::is_true(&node.status.conditions, "Ready"))
}

impl Controller for NodeLifecycle {
    type View = View;
    type Memory = Seen;
    const NAME: &'static str = "node-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.nodes);
        on.mapped(&self.leases, |change| {
            let is_nodes = change.key().namespace == LEASES_NAMESPACE;
            is_nodes
                .then(|| ObjectKey::cluster(change.key().name.clone()))
                .into_iter()
                .collect()
        });
        // Whether all nodes are lost changes what becomes of each.
        let nodes = Arc::clone(&self.nodes);
        on.mapped(&self.nodes, move |change| {
            if change.old.as_ref().is_some_and(is_ready)
                == change.new.as_ref().is_some_and(is_ready)
            {
                return Vec::new();
            }
            nodes
                .list()
                .into_iter()
                .map(|node| node.key().clone())
                .collect()
        });
        on.read(&self.pods);
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, Seen>) -> Option<View> {
        let stored = self.nodes.get(key)?;
        let node: NodeTaints = stored.decode().ok()?;
        let ready = conditions::find(&node.status.conditions, "Ready");
        let sign = self.sign_of_life(&key.name, ready);
        if past.memory.at.is_none() || past.memory.sign != sign {
            *past.memory = Seen {
                sign,
                at: Some(past.monotonic),
            };
        }
        let seen = past.memory.at.unwrap_or(past.monotonic);
        let is_unknown = ready.is_some_and(|ready| ready.status == "Unknown");
        let pods = if is_unknown {
            facts(&self.pods.find(&NODE_NAME, &key.name))
        } else {
            Vec::new()
        };
        Some(View {
            key: key.clone(),
            uid: stored.index.uid.clone(),
            revision: stored.revision,
            autonomy: Autonomy::of(&stored),
            silent_for: past.monotonic.saturating_sub(seen),
            grace: if ready.is_some() || past.memory.sign != "/" {
                self.grace
            } else {
                self.grace.max(STARTUP_GRACE)
            },
            is_everybody_lost: !self.nodes.list().iter().any(is_ready),
            ready_pods: pods
                .into_iter()
                .filter(|pod| pod.is_ready && !pod.is_finished())
                .collect(),
            node,
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        if view.silent_for >= view.grace && !view.is_known_lost() {
            return Plan::of(view.mark_unknown(now));
        }
        let mut plan = Plan::nothing();
        if view.silent_for < view.grace {
            plan.wake_within(view.grace.saturating_sub(view.silent_for));
        }
        plan.actions.extend(view.taint(now));
        plan.actions.push(Action::Together(
            view.ready_pods
                .iter()
                .map(|pod| mark_not_ready(pod, now))
                .collect(),
        ));
        plan
    }
}

impl View {
    fn is_known_lost(&self) -> bool {
        WATCHED.iter().all(|kind| {
            conditions::find(&self.node.status.conditions, kind)
                .is_some_and(|one| one.status == "Unknown")
        })
    }

    fn mark_unknown(&self, now: Timestamp) -> Vec<Action> {
        let mut wanted = self.node.status.conditions.clone();
        for kind in WATCHED {
            let unknown = |reason: &str, message: &str| Condition {
                status: "Unknown".into(),
                ..Condition::new(kind, true, reason, message, now)
            };
            match wanted.iter_mut().find(|one| one.kind == kind) {
                None => wanted.push(unknown(
                    "NodeStatusNeverUpdated",
                    "Kubelet never posted node status.",
                )),
                Some(standing) if standing.status != "Unknown" => {
                    let heartbeat = standing.last_heartbeat_time.clone();
                    *standing = Condition {
                        last_heartbeat_time: heartbeat,
                        ..unknown("NodeStatusUnknown", "Kubelet stopped posting node status.")
                    };
                }
                Some(_) => {}
            }
        }
        let patch = json!({
            "metadata": {"resourceVersion": self.revision.to_string()}, "status": {"conditions": wanted},
        });
        let name = &self.key.name;
        let mut actions = vec![
            Action::merge_status::<Node>(self.key.clone(), patch),
            self.event(
                "NodeNotReady",
                format!("Node {name} status is now: NodeNotReady"),
            ),
        ];
        if self.autonomy == Autonomy::Kept {
            let message = format!("Node {name} keeps its pods: it is labelled {AUTONOMY}=true");
            actions.push(self.event("PodsKept", message));
        }
        vec![Action::Sequence(actions)]
    }

    fn event(&self, reason: &str, message: String) -> Action {
        Action::Emit(Event {
            regarding: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(self.key.name.clone()),
                uid: Some(self.uid.clone()),
                ..ObjectReference::default()
            },
            event_type: EventType::Normal,
            reason: reason.into(),
            message,
        })
    }

    /// The write that gives the node the taints its conditions call for, if it has others.
    fn taint(&self, now: Timestamp) -> Option<Action> {
        let standing = &self.node.spec.taints;
        let is_ours = |taint: &Taint| OURS.contains(&(taint.key.as_str(), taint.effect.as_str()));
        let wanted = self.wanted_taints();
        let has = |key: &str, effect: &str| {
            standing
                .iter()
                .any(|taint| taint.key == key && taint.effect == effect)
        };
        let is_same = wanted.iter().all(|(key, effect)| has(key, effect))
            && standing.iter().filter(|taint| is_ours(taint)).all(|taint| {
                wanted
                    .iter()
                    .any(|(key, effect)| *key == taint.key && *effect == taint.effect)
            });
        if is_same {
            return None;
        }
        let kept = standing.iter().filter(|taint| {
            !is_ours(taint)
                || wanted
                    .iter()
                    .any(|(key, effect)| *key == taint.key && *effect == taint.effect)
        });
        let mut taints: Vec<serde_json::Value> = kept
            .map(|taint| serde_json::to_value(taint).unwrap_or_default())
            .collect();
        for (key, effect) in wanted.into_iter().filter(|(key, effect)| !has(key, effect)) {
            taints
                .push(json!({"key": key, "effect": effect, "timeAdded": now.to_seconds_string()}));
        }
        let patch = json!({"metadata": {"resourceVersion": self.revision.to_string()}, "spec": {"taints": taints}});
        Some(Action::merge::<Node>(self.key.clone(), patch))
    }

    fn wanted_taints(&self) -> Vec<(&'static str, &'static str)> {
        let status = |kind: &str| {
            conditions::find(&self.node.status.conditions, kind)
                .map(|condition| condition.status.as_str())
        };
        let mut wanted = Vec::new();
        let lost = match status("Ready") {
            Some("True") => None,
            // A node that has never spoken is not ready.
            Some("False") | None => Some(NOT_READY),
            Some(_) => Some(UNREACHABLE),
        };
        if let Some(key) = lost {
            wanted.push((key, NO_SCHEDULE));
            let is_evicted = self.autonomy == Autonomy::Evicted;
            if is_evicted && !self.is_everybody_lost && status("Ready").is_some() {
                wanted.push((key, NO_EXECUTE));
            }
        }
        for (kind, key) in [
            ("MemoryPressure", MEMORY_PRESSURE),
            ("DiskPressure", DISK_PRESSURE),
            ("PIDPressure", PID_PRESSURE),
            ("NetworkUnavailable", NETWORK_UNAVAILABLE),
        ] {
            wanted.extend((status(kind) == Some("True")).then_some((key, NO_SCHEDULE)));
        }
        wanted.extend(
            self.node
                .spec
                .unschedulable
                .then_some((UNSCHEDULABLE, NO_SCHEDULE)),
        );
        wanted
    }
}

/// Taints that nobody else sets or removes.
const OURS: [(&str, &str); 9] = [
    (NOT_READY, NO_SCHEDULE),
    (UNREACHABLE, NO_SCHEDULE),
    (NOT_READY, NO_EXECUTE),
    (UNREACHABLE, NO_EXECUTE),
    (MEMORY_PRESSURE, NO_SCHEDULE),
    (DISK_PRESSURE, NO_SCHEDULE),
    (PID_PRESSURE, NO_SCHEDULE),
    (NETWORK_UNAVAILABLE, NO_SCHEDULE),
    (UNSCHEDULABLE, NO_SCHEDULE),
];

/// Services must stop sending to pods of a node nobody hears of.
fn mark_not_ready(pod: &PodFacts, now: Timestamp) -> Action {
    let condition = json!({
        "type": "Ready", "status": "False", "lastTransitionTime": now.to_seconds_string(),
    });
    Action::Patch {
        resource: resource_of::<Pod>(),
        key: pod.key().clone(),
        subresource: "status",
        patch: Patch::Strategic(json!({
            "metadata": {"uid": pod.index.uid}, "status": {"conditions": [condition]},
        })),
    }
}

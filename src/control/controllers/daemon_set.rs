//! Keeps one pod of a template on every node that fits it.

mod nodes;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{LabelSelector, ObjectKey, StoredObject};
use controller::{Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{CONTROLLER_UID, Cache, Factory};
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use semantics::node_affinity::named_nodes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::Condition;
use crate::history::History;
use crate::ownership::{Adoption, Owner, owners_of_orphan};
use crate::pods::{Phase, PodFacts};
use nodes::DaemonNode;

/// Pods made or removed in one turn at most.
const BURST_PODS: usize = 250;
/// Pods that end on a node are replaced at once, then after pauses that double up to the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(15);
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) struct DaemonSets {
    sets: Arc<Cache>,
    pods: Arc<Cache>,
    nodes: Arc<Cache>,
    revisions: Arc<Cache>,
}

#[derive(Clone, Debug, Deserialize)]
struct Raw {
    metadata: RawMetadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
struct RawMetadata {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    selector: Value,
    template: Value,
    update_strategy: UpdateStrategy,
    min_ready_seconds: i32,
    revision_history_limit: Option<i32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateStrategy {
    #[serde(rename = "type")]
    kind: String,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RollingUpdate {
    max_unavailable: Option<Value>,
    max_surge: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    current_number_scheduled: i32,
    number_misscheduled: i32,
    desired_number_scheduled: i32,
    number_ready: i32,
    observed_generation: i64,
    updated_number_scheduled: i32,
    number_available: i32,
    number_unavailable: i32,
    collision_count: Option<i32>,
    conditions: Vec<Condition>,
}

/// A pod with the node it is for, which it may not be bound to yet.
#[derive(Clone, Debug)]
struct DaemonPod {
    facts: PodFacts,
    target: String,
}

/// When a node's pod may be replaced again.
#[derive(Clone, Debug)]
struct Pause {
    span: Duration,
    until: Duration,
}

/// Pauses by node.
#[derive(Default)]
pub(crate) struct Pauses(BTreeMap<String, Pause>);

/// What the plan of one daemon set needs.
pub(crate) struct View {
    owner: Owner,
    revision: i64,
    generation: i64,
    template_generation: Option<String>,
    spec: Spec,
    status: Status,
    candidates: Vec<DaemonPod>,
    adoption: Adoption,
    nodes: Vec<DaemonNode>,
    history: History,
    /// Nodes whose ended pod has to stay for a while yet.
    paused: BTreeMap<String, Duration>,
}

impl Spec {
    fn selector(&self) -> LabelSelector {
        LabelSelector::from_object(Some(&self.selector))
            .unwrap_or_else(|_error| LabelSelector::nothing())
    }
}

impl DaemonPod {
    fn of(stored: &StoredObject) -> Option<Self> {
        let facts = PodFacts::of(stored)?;
        let target = if facts.node_name.is_empty() {
            let spec = stored.decode::<Pod>().ok()?.spec?;
            named_nodes(&spec)
                .and_then(|names| names.into_iter().next())
                .unwrap_or_default()
        } else {
            facts.node_name.clone()
        };
        Some(Self { facts, target })
    }
}

impl Pauses {
    /// Nodes whose ended pods may not be replaced yet; the pauses of others begin now.
    fn note(&mut self, pods: &[DaemonPod], now: Duration) -> BTreeMap<String, Duration> {
        let mut paused = BTreeMap::new();
        for pod in pods
            .iter()
            .filter(|pod| pod.facts.phase == Phase::Failed && pod.facts.deleted.is_none())
        {
            match self.0.get_mut(&pod.target) {
                Some(pause) if now < pause.until => {
                    paused.insert(pod.target.clone(), pause.until.saturating_sub(now));
                }
                Some(pause) => {
                    pause.span = (pause.span * 2).min(PAUSE_MAX);
                    pause.until = now + pause.span;
                }
                None => {
                    let pause = Pause {
                        span: PAUSE_FIRST,
                        until: now + PAUSE_FIRST,
                    };
                    self.0.insert(pod.target.clone(), pause);
                }
            }
        }
        // A node that has behaved for long begins anew.
        self.0.retain(|_, pause| now < pause.until + PAUSE_MAX);
        paused
    }
}

impl DaemonSets {
    pub(crate) fn new(factory: &Factory) -> Self {
        let pods = factory.all::<Pod>();
        let revisions = factory.all::<ControllerRevision>();
        pods.add_index(CONTROLLER_UID);
        revisions.add_index(CONTROLLER_UID);
        Self {
            sets: factory.all::<DaemonSet>(),
            pods,
            nodes: factory.all::<Node>(),
            revisions,
        }
    }
}

impl Controller for DaemonSets {
    type View = View;
    type Memory = Pauses;
    const NAME: &'static str = "daemon-set-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.sets);
        on.owned(&self.pods, DaemonSet::KIND);
        on.owned(&self.revisions, DaemonSet::KIND);
        let sets = Arc::clone(&self.sets);
        on.mapped(&self.pods, move |change| {
            owners_of_orphan(&sets, change, |set, pod| {
                set.decode::<Raw>()
                    .is_ok_and(|set| set.spec.selector().matches_with(|key| pod.index.label(key)))
            })
        });
        let sets = Arc::clone(&self.sets);
        on.mapped(&self.nodes, move |change| {
            let (old, new) = (change.old.as_ref(), change.new.as_ref());
            if old.and_then(DaemonNode::of) == new.and_then(DaemonNode::of) {
                return Vec::new();
            }
            sets.list()
                .into_iter()
                .map(|set| set.key().clone())
                .collect()
        });
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, Pauses>) -> Option<View> {
        let stored = self.sets.get(key)?;
        let raw: Raw = stored.decode().ok()?;
        let owner = Owner::of::<DaemonSet>(&stored.index);
        let owned = self.pods.find(&CONTROLLER_UID, &owner.uid).into_iter();
        let orphans = self.pods.find(&CONTROLLER_UID, "").into_iter();
        let orphans = orphans.filter(|pod| pod.key().namespace == key.namespace);
        let candidates: Vec<DaemonPod> = owned
            .chain(orphans)
            .filter_map(|pod| DaemonPod::of(&pod))
            .collect();
        let own: Vec<DaemonPod> = candidates
            .iter()
            .filter(|pod| owner.owns(&pod.facts.index))
            .cloned()
            .collect();
        Some(View {
            adoption: Adoption::of(&owner, past.outcomes),
            revision: stored.revision,
            generation: stored.index.generation,
            template_generation: raw.metadata.annotations.get(TEMPLATE_GENERATION).cloned(),
            spec: raw.spec,
            status: raw.status,
            candidates,
            nodes: self
                .nodes
                .list()
                .iter()
                .filter_map(DaemonNode::of)
                .collect(),
            history: History::observe(&self.revisions, &owner, past.outcomes),
            paused: past.memory.note(&own, past.monotonic),
            owner,
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }
}

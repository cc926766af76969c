//! Keeps as many pods of a template as are wanted: `ReplicaSet`s and `ReplicationController`s, with one plan.

mod plan;
mod ranking;

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{LabelSelector, ObjectKey, StoredObject};
use controller::{Controller, Past, Plan, Verb, Wakes};
use env::Timestamp;
use informer::{CONTROLLER_UID, Cache, Factory};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::Condition;
use crate::ownership::{Adoption, Owner, owners_of_orphan};
use crate::pods::{PodFacts, facts};

/// Pods made or removed in one turn at most.
const BURST_REPLICAS: usize = 500;

/// Which of the two kinds a controller is for, and what differs between them.
struct Flavour {
    kind: &'static str,
    owner: fn(&apimachinery::ObjectIndex) -> Owner,
}

pub(crate) struct Replicas {
    flavour: Flavour,
    sets: Arc<Cache>,
    pods: Arc<Cache>,
}

impl Replicas {
    fn new(flavour: Flavour, sets: Arc<Cache>, pods: Arc<Cache>) -> Self {
        pods.add_index(CONTROLLER_UID);
        sets.add_index(CONTROLLER_UID);
        Self {
            flavour,
            sets,
            pods,
        }
    }
}

pub(crate) struct ReplicaSets(Replicas);
pub(crate) struct ReplicationControllers(Replicas);

impl ReplicaSets {
    pub(crate) fn new(factory: &Factory) -> Self {
        let flavour = Flavour {
            kind: "ReplicaSet",
            owner: Owner::of::<ReplicaSet>,
        };
        Self(Replicas::new(
            flavour,
            factory.all::<ReplicaSet>(),
            factory.all::<Pod>(),
        ))
    }
}

impl ReplicationControllers {
    pub(crate) fn new(factory: &Factory) -> Self {
        let flavour = Flavour {
            kind: "ReplicationController",
            owner: Owner::of::<ReplicationController>,
        };
        Self(Replicas::new(
            flavour,
            factory.all::<ReplicationController>(),
            factory.all::<Pod>(),
        ))
    }
}

/// The fields of both kinds.
#[derive(Clone, Debug, Deserialize)]
struct Set {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    replicas: Option<i32>,
    min_ready_seconds: i32,
    selector: Value,
    template: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    replicas: i32,
    fully_labeled_replicas: i32,
    ready_replicas: i32,
    available_replicas: i32,
    terminating_replicas: Option<i32>,
    observed_generation: i64,
    conditions: Vec<Condition>,
}

/// What the plan of one set needs.
#[derive(Clone, Debug)]
pub(crate) struct View {
    owner: Owner,
    revision: i64,
    generation: i64,
    set: Set,
    /// The pods it controls, and those nobody controls.
    candidates: Vec<PodFacts>,
    adoption: Adoption,
    /// Active pods of sets with the same controller, by node.
    related_on_node: BTreeMap<String, usize>,
    create_error: Option<String>,
    delete_error: Option<String>,
}

impl Replicas {
    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.sets);
        on.owned(&self.pods, self.flavour.kind);
        let sets = Arc::clone(&self.sets);
        on.mapped(&self.pods, move |change| {
            owners_of_orphan(&sets, change, |set, pod| {
                set.decode::<Set>()
                    .is_ok_and(|set| set.selector().matches_with(|key| pod.index.label(key)))
            })
        });
    }

    fn observe(&self, key: &ObjectKey, past: &Past<'_, ()>) -> Option<View> {
        let stored = self.sets.get(key)?;
        let set: Set = stored.decode().ok()?;
        let owner = (self.flavour.owner)(&stored.index);
        let mut candidates = facts(&self.pods.find(&CONTROLLER_UID, &owner.uid));
        let orphans = self.pods.find(&CONTROLLER_UID, "").into_iter();
        let orphans = orphans.filter(|pod| pod.key().namespace == key.namespace);
        candidates.extend(orphans.filter_map(|pod| PodFacts::of(&pod)));
        let error = |verb| {
            past.outcomes
                .failed(verb, "pods")
                .map(|failure| failure.error.to_string())
        };
        Some(View {
            adoption: Adoption::of(&owner, past.outcomes),
            revision: stored.revision,
            generation: stored.index.generation,
            set,
            candidates,
            related_on_node: self.related_on_node(&stored),
            create_error: error(Verb::Create),
            delete_error: error(Verb::Delete),
            owner,
        })
    }

    fn related_on_node(&self, set: &StoredObject) -> BTreeMap<String, usize> {
        let mut on_node = BTreeMap::new();
        let Some(controller) = set.index.controller() else {
            return on_node;
        };
        for related in self.sets.find(&CONTROLLER_UID, &controller.uid) {
            for pod in facts(&self.pods.find(&CONTROLLER_UID, &related.index.uid)) {
                if pod.is_active() {
                    *on_node.entry(pod.node_name).or_insert(0) += 1;
                }
            }
        }
        on_node
    }
}

impl Set {
    /// A replication controller's selector is plain labels, a replica set's has requirements.
    fn selector(&self) -> LabelSelector {
        let selector = &self.spec.selector;
        if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
            return LabelSelector::from_object(Some(selector))
                .unwrap_or_else(|_| LabelSelector::nothing());
        }
        let labels = selector.as_object().into_iter().flatten();
        let labels: Vec<(&str, &str)> = labels
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect();
        if labels.is_empty() {
            LabelSelector::nothing()
        } else {
            LabelSelector::from_labels(labels)
        }
    }
}

impl Controller for ReplicaSets {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "replicaset-controller";

    fn wakes(&self, on: &mut Wakes) {
        self.0.wakes(on);
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, ()>) -> Option<View> {
        self.0.observe(key, past)
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }
}

impl Controller for ReplicationControllers {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "replication-controller";

    fn wakes(&self, on: &mut Wakes) {
        self.0.wakes(on);
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, ()>) -> Option<View> {
        self.0.observe(key, past)
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }
}

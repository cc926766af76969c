//! Keeps numbered pods, each with a name and volumes of its own, and changes them one after the other.

mod identity;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{LabelSelector, ObjectKey, OwnerReference};
use controller::{Controller, Past, Plan, Verb, Wakes};
use env::Timestamp;
use informer::{CONTROLLER_UID, Cache, Factory};
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::Condition;
use crate::history::History;
use crate::ownership::{Adoption, Owner, owners_of_orphan};
use crate::pods::{PodFacts, facts};

pub(crate) struct StatefulSets {
    sets: Arc<Cache>,
    pods: Arc<Cache>,
    claims: Arc<Cache>,
    revisions: Arc<Cache>,
}

#[derive(Clone, Debug, Deserialize)]
struct Raw {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    replicas: Option<i32>,
    selector: Value,
    template: Value,
    volume_claim_templates: Vec<Value>,
    service_name: String,
    pod_management_policy: String,
    update_strategy: UpdateStrategy,
    min_ready_seconds: i32,
    revision_history_limit: Option<i32>,
    ordinals: Option<Ordinals>,
    persistent_volume_claim_retention_policy: Option<Retention>,
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
    partition: Option<i32>,
    max_unavailable: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ordinals {
    start: i32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Retention {
    when_deleted: String,
    when_scaled: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
    replicas: i32,
    ready_replicas: i32,
    current_replicas: i32,
    updated_replicas: i32,
    available_replicas: i32,
    current_revision: Option<String>,
    update_revision: Option<String>,
    collision_count: Option<i32>,
    conditions: Vec<Condition>,
}

/// A claim of the set's pods, as far as ownership goes.
#[derive(Clone, Debug)]
struct Claimed {
    owners: Vec<OwnerReference>,
    revision: i64,
    is_being_deleted: bool,
}

/// What the plan of one stateful set needs.
pub(crate) struct View {
    owner: Owner,
    revision: i64,
    generation: i64,
    spec: Spec,
    status: Status,
    candidates: Vec<PodFacts>,
    adoption: Adoption,
    claims: BTreeMap<String, Claimed>,
    history: History,
    create_error: Option<(String, String)>,
}

impl Spec {
    fn selector(&self) -> LabelSelector {
        LabelSelector::from_object(Some(&self.selector))
            .unwrap_or_else(|_error| LabelSelector::nothing())
    }

    fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }

    fn start(&self) -> i32 {
        self.ordinals.as_ref().map_or(0, |ordinals| ordinals.start)
    }

    fn is_parallel(&self) -> bool {
        self.pod_management_policy == "Parallel"
    }

    fn partition(&self) -> i32 {
        self.update_strategy
            .rolling_update
            .as_ref()
            .and_then(|rolling| rolling.partition)
            .unwrap_or(0)
    }
}

impl StatefulSets {
    pub(crate) fn new(factory: &Factory) -> Self {
        let pods = factory.all::<Pod>();
        let revisions = factory.all::<ControllerRevision>();
        pods.add_index(CONTROLLER_UID);
        revisions.add_index(CONTROLLER_UID);
        Self {
            sets: factory.all::<StatefulSet>(),
            pods,
            claims: factory.all::<PersistentVolumeClaim>(),
            revisions,
        }
    }

    fn claims(&self, namespace: &str) -> BTreeMap<String, Claimed> {
        let claims = self.claims.list_namespace(namespace).into_iter();
        let claimed = claims.map(|claim| {
            let claimed = Claimed {
                owners: claim.index.owners.to_vec(),
                revision: claim.revision,
                is_being_deleted: claim.index.is_being_deleted,
            };
            (claim.key().name.clone(), claimed)
        });
        claimed.collect()
    }
}

impl Controller for StatefulSets {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "statefulset-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.sets);
        on.owned(&self.pods, StatefulSet::KIND);
        on.owned(&self.revisions, StatefulSet::KIND);
        on.read(&self.claims);
        let sets = Arc::clone(&self.sets);
        on.mapped(&self.pods, move |change| {
            owners_of_orphan(&sets, change, |set, pod| {
                identity::ordinal(&set.key().name, &pod.key().name).is_some()
                    && set.decode::<Raw>().is_ok_and(|set| {
                        set.spec.selector().matches_with(|key| pod.index.label(key))
                    })
            })
        });
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, ()>) -> Option<View> {
        let stored = self.sets.get(key)?;
        let raw: Raw = stored.decode().ok()?;
        let owner = Owner::of::<StatefulSet>(&stored.index);
        let mut candidates = facts(&self.pods.find(&CONTROLLER_UID, &owner.uid));
        let orphans = self.pods.find(&CONTROLLER_UID, "").into_iter();
        // Only pods that carry one of the set's names can become its own.
        let orphans = orphans.filter(|pod| {
            pod.key().namespace == key.namespace
                && identity::ordinal(&key.name, &pod.key().name).is_some()
        });
        candidates.extend(orphans.filter_map(|pod| PodFacts::of(&pod)));
        let failure = past.outcomes.failed(Verb::Create, "pods");
        Some(View {
            adoption: Adoption::of(&owner, past.outcomes),
            revision: stored.revision,
            generation: stored.index.generation,
            claims: if raw.spec.volume_claim_templates.is_empty() {
                BTreeMap::new()
            } else {
                self.claims(&key.namespace)
            },
            spec: raw.spec,
            status: raw.status,
            candidates,
            history: History::observe(&self.revisions, &owner, past.outcomes),
            create_error: failure
                .map(|failure| (failure.key.name.clone(), failure.error.to_string())),
            owner,
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }
}

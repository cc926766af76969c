//! Moves a deployment's pods from old replica sets to the one of its template, within the limits its strategy sets.

mod draft;
mod plan;
mod proportions;
mod revision;
mod rollout;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{LabelSelector, Object, ObjectIndex, ObjectKey, StoredObject};
use controller::{Controller, Past, Plan, Verb, Wakes};
use env::Timestamp;
use informer::{CONTROLLER_UID, Cache, Change, Factory};
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube_client::resource_of;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::Condition;
use crate::ownership::{Adoption, Owner, owners_of_orphan};
use crate::pods::facts;

pub(crate) struct Deployments {
    deployments: Arc<Cache>,
    sets: Arc<Cache>,
    pods: Arc<Cache>,
}

#[derive(Clone, Debug, Deserialize)]
struct Raw {
    metadata: RawMetadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMetadata {
    annotations: BTreeMap<String, String>,
    creation_timestamp: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    replicas: Option<i32>,
    selector: Value,
    template: Value,
    strategy: Strategy,
    min_ready_seconds: i32,
    revision_history_limit: Option<i32>,
    paused: bool,
    progress_deadline_seconds: Option<i32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    #[serde(rename = "type")]
    kind: String,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RollingUpdate {
    max_surge: Option<Value>,
    max_unavailable: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
    replicas: i32,
    updated_replicas: i32,
    ready_replicas: i32,
    available_replicas: i32,
    unavailable_replicas: i32,
    terminating_replicas: Option<i32>,
    conditions: Vec<Condition>,
    collision_count: Option<i32>,
}

/// A replica set as a deployment sees it.
#[derive(Clone, Debug)]
struct Set {
    index: Arc<ObjectIndex>,
    revision: i64,
    created: String,
    annotations: BTreeMap<String, String>,
    replicas: i32,
    min_ready_seconds: i32,
    template: Value,
    status: SetStatus,
    /// Pods it controls that have not finished.
    unfinished_pods: usize,
}

#[derive(Clone, Debug, Deserialize)]
struct RawSet {
    metadata: RawMetadata,
    #[serde(default)]
    spec: SetSpec,
    #[serde(default)]
    status: SetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SetSpec {
    replicas: Option<i32>,
    min_ready_seconds: i32,
    template: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SetStatus {
    replicas: i32,
    ready_replicas: i32,
    available_replicas: i32,
    terminating_replicas: Option<i32>,
    observed_generation: i64,
    conditions: Vec<Condition>,
}

/// What the plan of one deployment needs.
#[derive(Clone, Debug)]
pub(crate) struct View {
    owner: Owner,
    revision: i64,
    generation: i64,
    annotations: BTreeMap<String, String>,
    spec: Spec,
    status: Status,
    /// The sets it controls, and those nobody controls.
    candidates: Vec<Set>,
    adoption: Adoption,
    /// Why the last turn could not create a set.
    create_error: Option<CreateError>,
    /// A set that had the name of the one to create, read live.
    namesake: Option<Option<Object>>,
}

#[derive(Clone, Debug)]
enum CreateError {
    NameTaken(ObjectKey),
    Other { name: String, error: String },
}

impl Deployments {
    pub(crate) fn new(factory: &Factory) -> Self {
        let deployments = factory.all::<Deployment>();
        let sets = factory.all::<ReplicaSet>();
        let pods = factory.all::<Pod>();
        sets.add_index(CONTROLLER_UID);
        pods.add_index(CONTROLLER_UID);
        Self {
            deployments,
            sets,
            pods,
        }
    }

    fn set(&self, stored: &StoredObject) -> Option<Set> {
        let raw: RawSet = stored.decode().ok()?;
        let pods = facts(&self.pods.find(&CONTROLLER_UID, &stored.index.uid));
        Some(Set {
            index: Arc::clone(&stored.index),
            revision: stored.revision,
            created: raw.metadata.creation_timestamp,
            annotations: raw.metadata.annotations,
            replicas: raw.spec.replicas.unwrap_or(1),
            min_ready_seconds: raw.spec.min_ready_seconds,
            template: raw.spec.template,
            status: raw.status,
            unfinished_pods: pods.iter().filter(|pod| !pod.is_finished()).count(),
        })
    }
}

impl Spec {
    fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }

    fn selector(&self) -> LabelSelector {
        LabelSelector::from_object(Some(&self.selector))
            .unwrap_or_else(|_error| LabelSelector::nothing())
    }

    fn is_rolling(&self) -> bool {
        self.strategy.kind != "Recreate"
    }

    /// A deadline of the largest number means none.
    fn progress_deadline(&self) -> Option<u64> {
        let seconds = self
            .progress_deadline_seconds
            .filter(|seconds| *seconds != i32::MAX)?;
        u64::try_from(seconds).ok()
    }
}

impl Controller for Deployments {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "deployment-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.deployments);
        on.owned(&self.sets, Deployment::KIND);
        let deployments = Arc::clone(&self.deployments);
        on.mapped(&self.sets, move |change| {
            owners_of_orphan(&deployments, change, selects)
        });
        // Recreate waits until the last old pod is gone, which no replica set's status tells.
        let sets = Arc::clone(&self.sets);
        on.mapped(&self.pods, move |change| {
            deployment_of_gone_pod(&sets, change)
        });
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, ()>) -> Option<View> {
        let stored = self.deployments.get(key)?;
        let raw: Raw = stored.decode().ok()?;
        let owner = Owner::of::<Deployment>(&stored.index);
        let orphans = self.sets.find(&CONTROLLER_UID, "").into_iter();
        let orphans = orphans.filter(|set| set.key().namespace == key.namespace);
        let owned = self.sets.find(&CONTROLLER_UID, &owner.uid).into_iter();
        let candidates = owned
            .chain(orphans)
            .filter_map(|set| self.set(&set))
            .collect();
        let failure = past.outcomes.failed(Verb::Create, "replicasets");
        let create_error = failure.map(|failure| {
            if failure.error.is_already_exists() {
                CreateError::NameTaken(failure.key.clone())
            } else {
                CreateError::Other {
                    name: failure.key.name.clone(),
                    error: failure.error.to_string(),
                }
            }
        });
        let namesake = past
            .outcomes
            .reads
            .iter()
            .find(|(resource, ..)| *resource == resource_of::<ReplicaSet>());
        Some(View {
            adoption: Adoption::of(&owner, past.outcomes),
            revision: stored.revision,
            generation: stored.index.generation,
            annotations: raw.metadata.annotations,
            spec: raw.spec,
            status: raw.status,
            candidates,
            create_error,
            namesake: namesake.map(|(_, _, answer)| answer.clone()),
            owner,
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }
}

fn selects(deployment: &StoredObject, set: &StoredObject) -> bool {
    #[derive(Deserialize)]
    struct Selecting {
        spec: SelectingSpec,
    }
    #[derive(Deserialize)]
    struct SelectingSpec {
        #[serde(default)]
        selector: Value,
    }
    deployment.decode::<Selecting>().is_ok_and(|deployment| {
        LabelSelector::from_object(Some(&deployment.spec.selector))
            .is_ok_and(|selector| selector.matches_with(|key| set.index.label(key)))
    })
}

fn deployment_of_gone_pod(sets: &Cache, change: &Change) -> Vec<ObjectKey> {
    let (None, Some(pod)) = (&change.new, &change.old) else {
        return Vec::new();
    };
    let deployment = pod
        .index
        .controller()
        .filter(|owner| owner.kind == ReplicaSet::KIND)
        .and_then(|owner| {
            sets.get(&ObjectKey::namespaced(
                pod.key().namespace.clone(),
                owner.name.clone(),
            ))
        })
        .and_then(|set| Some(set.index.controller()?.name.clone()));
    let key = |name| ObjectKey::namespaced(pod.key().namespace.clone(), name);
    deployment.into_iter().map(key).collect()
}

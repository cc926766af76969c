//! Tells how many pods of each disruption budget may be evicted right now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{LabelSelector, ObjectKey, StoredObject};
use controller::{Action, Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Change, Factory};
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use semantics::int_or_percent::{Rounding, scaled};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::conditions::{self, Condition};
use crate::pods::PodFacts;

/// A pod that was allowed to be evicted and is still there after this time will stay.
const EVICTION_TIMEOUT: Duration = Duration::from_mins(2);
const CONDITION: &str = "DisruptionAllowed";

pub(crate) struct Disruption {
    budgets: Arc<Cache>,
    pods: Arc<Cache>,
    replica_sets: Arc<Cache>,
    deployments: Arc<Cache>,
    replication_controllers: Arc<Cache>,
    stateful_sets: Arc<Cache>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    min_available: Option<Value>,
    max_unavailable: Option<Value>,
    selector: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
    /// Pods whose eviction was allowed, and when; the API server adds them.
    disrupted_pods: BTreeMap<String, Option<String>>,
    disruptions_allowed: i32,
    current_healthy: i32,
    desired_healthy: i32,
    expected_pods: i32,
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
struct Scaled {
    #[serde(default)]
    spec: ScaledSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ScaledSpec {
    replicas: Option<i32>,
}

pub(crate) struct View {
    key: ObjectKey,
    revision: i64,
    generation: i64,
    spec: Spec,
    status: Status,
    pods: Vec<PodFacts>,
    /// Replicas wanted by everything that controls one of the pods.
    scale: i32,
}

fn selector(spec: &Spec) -> LabelSelector {
    LabelSelector::from_object(spec.selector.as_ref())
        .unwrap_or_else(|_error| LabelSelector::nothing())
}

impl Disruption {
    pub(crate) fn new(factory: &Factory) -> Self {
        Self {
            budgets: factory.all::<PodDisruptionBudget>(),
            pods: factory.all::<Pod>(),
            replica_sets: factory.all::<ReplicaSet>(),
            deployments: factory.all::<Deployment>(),
            replication_controllers: factory.all::<ReplicationController>(),
            stateful_sets: factory.all::<StatefulSet>(),
        }
    }

    /// The uid and the wanted size of what scales a pod: a deployment rather than its replica set.
    fn scale_of(&self, pod: &PodFacts) -> Option<(String, i32)> {
        let owner = pod.index.controller()?;
        let key = |name: &str| ObjectKey::namespaced(pod.key().namespace.clone(), name);
        let cache = match owner.kind.as_str() {
            ReplicaSet::KIND => &self.replica_sets,
            ReplicationController::KIND => &self.replication_controllers,
            StatefulSet::KIND => &self.stateful_sets,
            _ => return None,
        };
        let mut scaled = cache
            .get(&key(&owner.name))
            .filter(|found| found.index.uid == owner.uid)?;
        if let Some(above) = scaled
            .index
            .controller()
            .filter(|above| above.kind == Deployment::KIND)
        {
            scaled = self
                .deployments
                .get(&key(&above.name))
                .filter(|found| found.index.uid == above.uid)?;
        }
        let replicas = scaled.decode::<Scaled>().ok()?.spec.replicas.unwrap_or(1);
        Some((scaled.index.uid.clone(), replicas))
    }
}

fn budgets_of_pod(budgets: &Cache, change: &Change) -> Vec<ObjectKey> {
    let covers = |budget: &StoredObject| {
        let Ok(budget) = budget.decode::<Raw>() else {
            return false;
        };
        let selector = selector(&budget.spec);
        [&change.old, &change.new]
            .into_iter()
            .flatten()
            .any(|pod| selector.matches_with(|key| pod.index.label(key)))
    };
    let budgets = budgets.list_namespace(&change.key().namespace).into_iter();
    budgets
        .filter(covers)
        .map(|budget| budget.key().clone())
        .collect()
}

impl Controller for Disruption {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "disruption-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.budgets);
        let budgets = Arc::clone(&self.budgets);
        on.mapped(&self.pods, move |change| budgets_of_pod(&budgets, change));
        // What scales pods decides how many are expected; budgets are few.
        for cache in [
            &self.replica_sets,
            &self.deployments,
            &self.replication_controllers,
            &self.stateful_sets,
        ] {
            let budgets = Arc::clone(&self.budgets);
            on.mapped(cache, move |change| {
                let is_same = match (&change.old, &change.new) {
                    (Some(old), Some(new)) => old.index.generation == new.index.generation,
                    _ => false,
                };
                let budgets = if is_same {
                    Vec::new()
                } else {
                    budgets.list_namespace(&change.key().namespace)
                };
                budgets
                    .into_iter()
                    .map(|budget| budget.key().clone())
                    .collect()
            });
        }
    }

    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        let stored = self.budgets.get(key)?;
        let raw: Raw = stored.decode().ok()?;
        let selector = selector(&raw.spec);
        let pods = self.pods.list_namespace(&key.namespace).into_iter();
        let pods = pods.filter(|pod| selector.matches_with(|label| pod.index.label(label)));
        let pods: Vec<PodFacts> = pods.filter_map(|pod| PodFacts::of(&pod)).collect();
        let mut seen = BTreeSet::new();
        let scales = pods.iter().filter_map(|pod| self.scale_of(pod));
        let scale = scales
            .filter(|(uid, _)| seen.insert(uid.clone()))
            .map(|(_, replicas)| replicas)
            .sum();
        Some(View {
            key: key.clone(),
            revision: stored.revision,
            generation: stored.index.generation,
            spec: raw.spec,
            status: raw.status,
            pods,
            scale,
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let (status, again_after) = status(view, now);
        let mut plan = Plan {
            actions: Vec::new(),
            again_after,
        };
        if status != view.status {
            plan.push(update(view, &status));
        }
        plan
    }
}

fn expected(view: &View) -> (i32, i32) {
    let count = i32::try_from(view.pods.len()).unwrap_or(i32::MAX);
    if let Some(max) = &view.spec.max_unavailable {
        let expected = view.scale;
        return (
            expected,
            (expected - scaled(Some(max), expected, Rounding::Up)).max(0),
        );
    }
    match &view.spec.min_available {
        Some(percent @ Value::String(_)) => {
            (view.scale, scaled(Some(percent), view.scale, Rounding::Up))
        }
        Some(number) => (count, scaled(Some(number), count, Rounding::Up)),
        None => (count, count.min(1)),
    }
}

fn status(view: &View, now: Timestamp) -> (Status, Option<Duration>) {
    let (expected_pods, desired_healthy) = expected(view);
    let mut disrupted_pods = BTreeMap::new();
    let mut again_after: Option<Duration> = None;
    for (name, at) in &view.status.disrupted_pods {
        let pod = view
            .pods
            .iter()
            .find(|pod| pod.key().name == *name && pod.deleted.is_none());
        let at_time = at.as_deref().and_then(Timestamp::parse);
        let left = at_time.map(|at| at.saturating_add(EVICTION_TIMEOUT).saturating_since(now));
        if let (Some(_), Some(left)) = (pod, left.filter(|left| !left.is_zero())) {
            disrupted_pods.insert(name.clone(), at.clone());
            again_after = Some(again_after.map_or(left, |known| known.min(left)));
        }
    }
    let is_healthy = |pod: &&PodFacts| {
        pod.is_ready && pod.deleted.is_none() && !disrupted_pods.contains_key(&pod.key().name)
    };
    let current_healthy =
        i32::try_from(view.pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let allowed = current_healthy - desired_healthy;
    let disruptions_allowed = if expected_pods <= 0 || allowed <= 0 {
        0
    } else {
        allowed
    };
    let mut conditions = view.status.conditions.clone();
    let reason = if disruptions_allowed > 0 {
        "SufficientPods"
    } else {
        "InsufficientPods"
    };
    conditions::set(
        &mut conditions,
        Condition {
            observed_generation: Some(view.generation),
            ..Condition::new(CONDITION, disruptions_allowed > 0, reason, "", now)
        },
    );
    let status = Status {
        observed_generation: view.generation,
        disrupted_pods,
        disruptions_allowed,
        current_healthy,
        desired_healthy,
        expected_pods,
        conditions,
    };
    (status, again_after)
}

fn update(view: &View, status: &Status) -> Action {
    let mut wanted = json!(status);
    for name in view
        .status
        .disrupted_pods
        .keys()
        .filter(|name| !status.disrupted_pods.contains_key(*name))
    {
        wanted["disruptedPods"][name] = Value::Null;
    }
    let patch =
        json!({"metadata": {"resourceVersion": view.revision.to_string()}, "status": wanted});
    Action::merge_status::<PodDisruptionBudget>(view.key.clone(), patch)
}

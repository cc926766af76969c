//! What the scheduler looks up beyond pods and nodes: namespaces, the selectors of a pod's workload, volumes, disruption budgets.

use std::sync::Arc;

use apimachinery::{LabelSelector, ObjectIndex, ObjectKey, StoredObject};
use informer::{Cache, Factory};
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, PersistentVolume, PersistentVolumeClaim, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug)]
pub(crate) struct Workloads {
    pub(crate) namespaces: Arc<Cache>,
    services: Arc<Cache>,
    replica_sets: Arc<Cache>,
    replication_controllers: Arc<Cache>,
    stateful_sets: Arc<Cache>,
    pub(crate) budgets: Arc<Cache>,
    pub(crate) claims: Arc<Cache>,
    pub(crate) volumes: Arc<Cache>,
    pub(crate) classes: Arc<Cache>,
}

#[derive(Deserialize)]
struct Selecting {
    #[serde(default)]
    spec: SelectingSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SelectingSpec {
    selector: Value,
}

impl Workloads {
    pub(crate) fn new(factory: &Factory) -> Self {
        Self {
            namespaces: factory.all::<Namespace>(),
            services: factory.all::<Service>(),
            replica_sets: factory.all::<ReplicaSet>(),
            replication_controllers: factory.all::<ReplicationController>(),
            stateful_sets: factory.all::<StatefulSet>(),
            budgets: factory.all::<PodDisruptionBudget>(),
            claims: factory.all::<PersistentVolumeClaim>(),
            volumes: factory.all::<PersistentVolume>(),
            classes: factory.all::<StorageClass>(),
        }
    }

    pub(crate) fn caches(&self) -> [&Arc<Cache>; 9] {
        [
            &self.namespaces,
            &self.services,
            &self.replica_sets,
            &self.replication_controllers,
            &self.stateful_sets,
            &self.budgets,
            &self.claims,
            &self.volumes,
            &self.classes,
        ]
    }

    pub(crate) fn namespace_labels(&self, namespace: &str) -> Option<Arc<ObjectIndex>> {
        self.namespaces
            .get(&ObjectKey::cluster(namespace))
            .map(|namespace| namespace.index)
    }

    /// Selectors of everything that counts this pod among its own: all of them must match. Empty: nothing does.
    pub(crate) fn selectors_of(&self, pod: &ObjectIndex) -> Vec<LabelSelector> {
        let namespace = &pod.key.namespace;
        let services = self.services.list_namespace(namespace);
        let services = services.iter().filter_map(selector);
        let mut selectors: Vec<LabelSelector> = services
            .filter(|selector| selector.matches_with(|key| pod.label(key)))
            .collect();
        let owner = pod.controller().and_then(|owner| {
            let cache = match owner.kind.as_str() {
                ReplicaSet::KIND => &self.replica_sets,
                ReplicationController::KIND => &self.replication_controllers,
                StatefulSet::KIND => &self.stateful_sets,
                _ => return None,
            };
            cache.get(&ObjectKey::namespaced(
                namespace.clone(),
                owner.name.clone(),
            ))
        });
        selectors.extend(owner.as_ref().and_then(selector));
        selectors
    }
}

fn selector(stored: &StoredObject) -> Option<LabelSelector> {
    let selector = stored.decode::<Selecting>().ok()?.spec.selector;
    if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        return LabelSelector::from_object(Some(&selector)).ok();
    }
    let labels = selector.as_object().filter(|labels| !labels.is_empty())?;
    let labels = labels
        .iter()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    Some(LabelSelector::from_labels(labels.collect::<Vec<_>>()))
}

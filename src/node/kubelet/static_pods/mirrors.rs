//! Mirror pods: what the API shows of static pods. Made when missing, replaced when outdated, removed with their pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{ObjectKey, StoredObject};
use k8s_openapi::api::core::v1::Pod;
use kube_client::{ClientError, DeleteOptions};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::pods::facts::{CONFIG_HASH, CONFIG_MIRROR};
use crate::services::Services;

/// The mirrors of this node as the API has them.
#[derive(Default)]
pub(crate) struct Mirrors {
    known: Mutex<BTreeMap<ObjectKey, StoredObject>>,
    changed: Notify,
}

/// What a mirror needs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Create(Value),
    Delete { uid: String },
}

impl Mirrors {
    pub(crate) fn put(&self, mirror: StoredObject) {
        self.known.lock().insert(mirror.key().clone(), mirror);
        self.changed.notify_one();
    }

    pub(crate) fn remove(&self, mirror: &StoredObject) {
        let mut known = self.known.lock();
        if known
            .get(mirror.key())
            .is_some_and(|known| known.index.uid == mirror.index.uid)
        {
            known.remove(mirror.key());
        }
        drop(known);
        self.changed.notify_one();
    }

    /// The mirror that shows this very pod.
    pub(crate) fn of(&self, pod: &StoredObject) -> Option<StoredObject> {
        let mirror = self.known.lock().get(pod.key()).cloned()?;
        is_current(pod, &mirror).then_some(mirror)
    }

    /// Returns when a mirror came, changed or went; cancel safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Brings the API's mirrors to these static pods.
    pub(crate) async fn reconcile(
        &self,
        pods: &[StoredObject],
        services: &Arc<Services>,
        node_uid: &str,
    ) -> Result<(), ClientError> {
        let known = self.known.lock().clone();
        for (key, step) in plan(pods, &known, &services.config.node_name, node_uid) {
            let api = services.client.api::<Pod>(&key.namespace);
            let done = match step {
                Step::Create(mirror) => {
                    api.dynamic().create_as::<_, Value>(&mirror).await.map(drop)
                }
                Step::Delete { uid } => {
                    let options = DeleteOptions {
                        grace_period_seconds: Some(0),
                        ..DeleteOptions::only(uid)
                    };
                    api.delete(&key.name, &options).await.map(drop)
                }
            };
            match done {
                Ok(()) => {}
                // Somebody was faster; the watch tells.
                Err(error)
                    if error.is_already_exists() || error.is_not_found() || error.is_conflict() => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn plan(
    pods: &[StoredObject],
    known: &BTreeMap<ObjectKey, StoredObject>,
    node_name: &str,
    node_uid: &str,
) -> Vec<(ObjectKey, Step)> {
    let mut steps = Vec::new();
    for mirror in known.values() {
        let is_wanted = pods
            .iter()
            .any(|pod| pod.key() == mirror.key() && is_current(pod, mirror));
        if !is_wanted || mirror.index.is_being_deleted {
            steps.push((
                mirror.key().clone(),
                Step::Delete {
                    uid: mirror.index.uid.clone(),
                },
            ));
        }
    }
    for pod in pods.iter().filter(|pod| !known.contains_key(pod.key())) {
        steps.extend(
            mirror_of(pod, node_name, node_uid)
                .map(|mirror| (pod.key().clone(), Step::Create(mirror))),
        );
    }
    steps
}

fn is_current(pod: &StoredObject, mirror: &StoredObject) -> bool {
    annotation(pod, CONFIG_HASH).is_some()
        && annotation(pod, CONFIG_HASH) == annotation(mirror, CONFIG_MIRROR)
}

fn annotation(object: &StoredObject, key: &str) -> Option<String> {
    Some(object.to_object().ok()?.annotation(key)?.to_owned())
}

/// The object to create; its status is the kubelet's to write.
fn mirror_of(pod: &StoredObject, node_name: &str, node_uid: &str) -> Option<Value> {
    let mut mirror = pod.to_object().ok()?;
    let hash = mirror.annotation(CONFIG_HASH)?.to_owned();
    let metadata = mirror.metadata_mut();
    for field in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
        metadata.remove(field);
    }
    metadata
        .get_mut("annotations")?
        .as_object_mut()?
        .insert(CONFIG_MIRROR.to_owned(), hash.into());
    if !node_uid.is_empty() {
        metadata.insert(
            "ownerReferences".to_owned(),
            json!([{"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": node_uid, "controller": true}]),
        );
    }
    mirror.remove_at(&["status"]);
    Some(mirror.into_value())
}

//! A claim that a pod uses, and a volume that is bound, wait with their deletion until that is over.
//!
//! Both carry a finalizer of ours from their creation on; it is taken away when the object is deleted and not in use, and put back when an
//! object that stays lacks it.

use std::sync::Arc;

use apimachinery::{Object, ObjectKey, StoredObject};
use controller::{Action, Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory, Index};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube_client::resource_of;
use serde::Deserialize;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// The claims that a pod on a node uses, as `namespace/name`. A pod without a node waits for its claims anyway.
const CLAIMS: Index = Index {
    name: "claims of pods on nodes",
    values: claims_in_use,
};

pub(crate) struct ClaimProtection {
    claims: Arc<Cache>,
    pods: Arc<Cache>,
}

pub(crate) struct VolumeProtection {
    volumes: Arc<Cache>,
}

/// One claim or volume that does not stand as it should.
pub(crate) struct View {
    object: Object,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Protect,
    Release,
}

impl ClaimProtection {
    pub(crate) fn new(factory: &Factory) -> Self {
        let pods = factory.all::<Pod>();
        pods.add_index(CLAIMS);
        Self {
            claims: factory.all::<PersistentVolumeClaim>(),
            pods,
        }
    }
}

impl VolumeProtection {
    pub(crate) fn new(factory: &Factory) -> Self {
        Self {
            volumes: factory.all::<PersistentVolume>(),
        }
    }
}

impl Controller for ClaimProtection {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "pvc-protection-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.claims);
        let claims = Arc::clone(&self.claims);
        on.mapped(&self.pods, move |change| {
            // Only the end of a use can let a claim go.
            let used = change.old.iter().flat_map(claims_of);
            let waits = |key: &ObjectKey| {
                claims
                    .get(key)
                    .is_some_and(|claim| claim.index.is_being_deleted)
            };
            used.filter(waits).collect()
        });
    }

    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        let is_in_use = || {
            !self
                .pods
                .find(&CLAIMS, &format!("{}/{}", key.namespace, key.name))
                .is_empty()
        };
        view(&self.claims.get(key)?, CLAIM_FINALIZER, is_in_use)
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        Plan::of(vec![Action::Update {
            resource: resource_of::<PersistentVolumeClaim>(),
            subresource: "",
            object: Box::new(changed(view, CLAIM_FINALIZER)),
        }])
    }
}

impl Controller for VolumeProtection {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "pv-protection-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.volumes);
    }

    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        let volume = self.volumes.get(key)?;
        view(&volume, VOLUME_FINALIZER, || {
            phase_of(&volume).as_deref() == Some("Bound")
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        Plan::of(vec![Action::Update {
            resource: resource_of::<PersistentVolume>(),
            subresource: "",
            object: Box::new(changed(view, VOLUME_FINALIZER)),
        }])
    }
}

fn view(stored: &StoredObject, finalizer: &str, is_in_use: impl FnOnce() -> bool) -> Option<View> {
    let is_protected = stored
        .index
        .finalizers
        .iter()
        .any(|own| **own == *finalizer);
    let change = match (stored.index.is_being_deleted, is_protected) {
        (true, true) if !is_in_use() => Change::Release,
        (false, false) => Change::Protect,
        _ => return None,
    };
    Some(View {
        object: stored.to_object().ok()?,
        change,
    })
}

fn changed(view: &View, finalizer: &str) -> Object {
    let mut object = view.object.clone();
    let mut finalizers: Vec<String> = object.finalizers().into_iter().map(str::to_owned).collect();
    match view.change {
        Change::Protect => finalizers.push(finalizer.to_owned()),
        Change::Release => finalizers.retain(|own| own != finalizer),
    }
    object.set_finalizers(finalizers);
    object
}

fn phase_of(volume: &StoredObject) -> Option<String> {
    #[derive(Deserialize)]
    struct Volume {
        #[serde(default)]
        status: Status,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        phase: Option<String>,
    }
    volume.decode::<Volume>().ok()?.status.phase
}

#[derive(Deserialize)]
struct RawPod {
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    volumes: Vec<Volume>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: String,
    persistent_volume_claim: Option<ClaimSource>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSource {
    claim_name: String,
}

fn claims_in_use(pod: &StoredObject) -> Vec<String> {
    claims_of(pod)
        .into_iter()
        .map(|key| format!("{}/{}", key.namespace, key.name))
        .collect()
}

/// Claims of a pod that is on a node. The claim of an ephemeral volume is named after both.
fn claims_of(pod: &StoredObject) -> Vec<ObjectKey> {
    let Ok(raw) = pod.decode::<RawPod>() else {
        return Vec::new();
    };
    if raw.spec.node_name.is_empty() {
        return Vec::new();
    }
    let key = pod.key();
    let name = |volume: Volume| match (volume.persistent_volume_claim, volume.ephemeral) {
        (Some(source), _) => Some(source.claim_name),
        (None, Some(_)) => Some(format!("{}-{}", key.name, volume.name)),
        (None, None) => None,
    };
    raw.spec
        .volumes
        .into_iter()
        .filter_map(name)
        .map(|name| ObjectKey::namespaced(key.namespace.clone(), name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stored(object: &serde_json::Value) -> StoredObject {
        StoredObject::new(serde_json::to_vec(object).unwrap().into(), 7).unwrap()
    }

    #[test]
    fn a_deleted_claim_is_released_when_nothing_uses_it() {
        let claim = stored(
            &json!({"metadata": {"name": "data", "namespace": "n", "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["kubernetes.io/pvc-protection", "example.com/other"]}}),
        );
        assert!(view(&claim, CLAIM_FINALIZER, || true).is_none());
        let free = view(&claim, CLAIM_FINALIZER, || false).unwrap();
        assert_eq!(
            changed(&free, CLAIM_FINALIZER).finalizers(),
            ["example.com/other"]
        );
    }

    #[test]
    fn a_claim_that_stays_is_protected() {
        let claim = stored(&json!({"metadata": {"name": "data", "namespace": "n"}}));
        let bare = view(&claim, CLAIM_FINALIZER, || false).unwrap();
        assert_eq!(
            changed(&bare, CLAIM_FINALIZER).finalizers(),
            [CLAIM_FINALIZER]
        );
    }

    #[test]
    fn only_pods_on_nodes_use_claims() {
        let pod = |node: &str| {
            stored(
                &json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": node, "volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "ephemeral": {}}, {"name": "c", "emptyDir": {}}]}}),
            )
        };
        assert_eq!(claims_in_use(&pod("")), Vec::<String>::new());
        assert_eq!(claims_in_use(&pod("one")), ["n/data", "n/p-b"]);
    }
}

//! Which objects a controller's object owns: keep what fits, release what no longer does, adopt orphans that fit.

use apimachinery::{GroupVersionResource, LabelSelector, ObjectIndex, ObjectKey, StoredObject};
use controller::{Action, Outcomes};
use informer::{Cache, Change};
use k8s_openapi::Resource;
use kube_client::{Patch, resource_of};
use serde_json::{Value, json};

/// The object that owns.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) resource: GroupVersionResource,
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
    pub(crate) is_being_deleted: bool,
}

impl Owner {
    pub(crate) fn of<K: Resource>(index: &ObjectIndex) -> Self {
        Self {
            api_version: K::API_VERSION,
            kind: K::KIND,
            resource: resource_of::<K>(),
            key: index.key.clone(),
            uid: index.uid.clone(),
            is_being_deleted: index.is_being_deleted,
        }
    }

    pub(crate) fn owns(&self, index: &ObjectIndex) -> bool {
        index
            .controller()
            .is_some_and(|owner| owner.uid == self.uid)
    }

    /// The reference a dependent carries: it is controlled, and keeps a foreground deletion of the owner waiting.
    pub(crate) fn reference(&self) -> Value {
        json!({
            "apiVersion": self.api_version, "kind": self.kind, "name": self.key.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        })
    }

    pub(crate) fn as_event_object(&self) -> k8s_openapi::api::core::v1::ObjectReference {
        k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some(self.api_version.to_owned()),
            kind: Some(self.kind.to_owned()),
            name: Some(self.key.name.clone()),
            namespace: Some(self.key.namespace.clone()),
            uid: Some(self.uid.clone()),
            ..k8s_openapi::api::core::v1::ObjectReference::default()
        }
    }
}

/// Whether the owner may adopt, as its last turn has found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adoption {
    NotAsked,
    Allowed,
    Refused,
}

impl Adoption {
    pub(crate) fn of(owner: &Owner, outcomes: &Outcomes) -> Self {
        match outcomes.read(&owner.resource, &owner.key) {
            None => Self::NotAsked,
            Some(Some(live)) if live.uid() == owner.uid && !live.is_being_deleted() => {
                Self::Allowed
            }
            Some(_) => Self::Refused,
        }
    }
}

/// What to do about the candidates.
pub(crate) enum Claim<T> {
    /// Whether the owner may adopt must be read live first: a cache may not know yet that it is being deleted.
    AskFirst(Action),
    Settled {
        /// Those that fit, also those to be adopted.
        owned: Vec<T>,
        actions: Vec<Action>,
    },
}

/// Sorts `candidates`, which are of `resource`, by the rules of controller references.
///
/// `finalizer` is added to what is adopted and taken from what is released; empty: none.
pub(crate) fn claim<T>(
    owner: &Owner,
    selector: &LabelSelector,
    resource: &GroupVersionResource,
    finalizer: &str,
    adoption: Adoption,
    candidates: Vec<T>,
    index_of: impl Fn(&T) -> &ObjectIndex,
) -> Claim<T> {
    let mut owned = Vec::with_capacity(candidates.len());
    let mut actions = Vec::new();
    for candidate in candidates {
        let index = index_of(&candidate);
        let fits = selector.matches_with(|key| index.label(key));
        match (index.controller(), fits) {
            (Some(controller), _) if controller.uid != owner.uid => continue,
            (Some(_), true) => {}
            (Some(_), false) => {
                if !owner.is_being_deleted {
                    actions.push(release(owner, resource, index, finalizer));
                }
                continue;
            }
            (None, true) if !owner.is_being_deleted && !index.is_being_deleted => match adoption {
                Adoption::NotAsked => return Claim::AskFirst(ask(owner)),
                Adoption::Allowed => actions.push(adopt(owner, resource, index, finalizer)),
                Adoption::Refused => continue,
            },
            (None, _) => continue,
        }
        owned.push(candidate);
    }
    Claim::Settled { owned, actions }
}

/// The owners that may want an orphan: one that is new, was let go, or has other labels. `selects` gets an owner and the orphan.
pub(crate) fn owners_of_orphan(
    owners: &Cache,
    change: &Change,
    selects: impl Fn(&StoredObject, &StoredObject) -> bool,
) -> Vec<ObjectKey> {
    let is_orphan = |object: &&StoredObject| object.index.controller().is_none();
    let Some(orphan) = change.new.as_ref().filter(is_orphan) else {
        return Vec::new();
    };
    let before = change.old.as_ref().filter(is_orphan);
    if before.is_some_and(|old| old.index.labels == orphan.index.labels) {
        return Vec::new();
    }
    let owners = owners.list_namespace(&orphan.key().namespace).into_iter();
    owners
        .filter(|owner| selects(owner, orphan))
        .map(|owner| owner.key().clone())
        .collect()
}

fn ask(owner: &Owner) -> Action {
    Action::Read {
        resource: owner.resource.clone(),
        key: owner.key.clone(),
    }
}

fn adopt(
    owner: &Owner,
    resource: &GroupVersionResource,
    index: &ObjectIndex,
    finalizer: &str,
) -> Action {
    let mut metadata = json!({"uid": index.uid, "ownerReferences": [owner.reference()]});
    if !finalizer.is_empty() {
        metadata["finalizers"] = json!([finalizer]);
    }
    patch(resource, index, metadata)
}

fn release(
    owner: &Owner,
    resource: &GroupVersionResource,
    index: &ObjectIndex,
    finalizer: &str,
) -> Action {
    let mut metadata =
        json!({"uid": index.uid, "ownerReferences": [{"$patch": "delete", "uid": owner.uid}]});
    if !finalizer.is_empty() {
        metadata["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
    }
    patch(resource, index, metadata)
}

fn patch(resource: &GroupVersionResource, index: &ObjectIndex, metadata: Value) -> Action {
    Action::Patch {
        resource: resource.clone(),
        key: index.key.clone(),
        subresource: "",
        patch: Patch::Strategic(json!({"metadata": metadata})),
    }
}

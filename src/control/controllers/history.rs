//! The revisions of a workload: each template it had, as `ControllerRevision`s that a rollback can go back to.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::{LabelSelector, Object, ObjectIndex, ObjectKey, StoredObject};
use controller::{Action, Failure, Outcomes, Verb};
use informer::{CONTROLLER_UID, Cache};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube_client::resource_of;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ownership::{Adoption, Claim, Owner, claim};
use crate::template_hash::{hash, significant};

pub(crate) const REVISION_HASH: &str = "controller-revision-hash";

#[derive(Clone, Debug)]
pub(crate) struct Revision {
    pub(crate) index: Arc<ObjectIndex>,
    version: i64,
    pub(crate) number: i64,
    pub(crate) data: Value,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    revision: i64,
    #[serde(default)]
    data: Value,
}

impl Revision {
    fn of(stored: &StoredObject) -> Option<Self> {
        let raw: Raw = stored.decode().ok()?;
        Some(Self {
            index: Arc::clone(&stored.index),
            version: stored.revision,
            number: raw.revision,
            data: raw.data,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.index.key.name
    }

    pub(crate) fn hash(&self) -> &str {
        self.index.label(REVISION_HASH).unwrap_or_default()
    }

    /// The pod template of this revision.
    pub(crate) fn template(&self) -> Value {
        let mut template = self
            .data
            .pointer("/spec/template")
            .cloned()
            .unwrap_or_default();
        if let Some(fields) = template.as_object_mut() {
            fields.remove("$patch");
        }
        template
    }
}

/// What a workload's history is read from.
#[derive(Clone, Debug)]
pub(crate) struct History {
    candidates: Vec<Revision>,
    /// Why the last turn could not create a revision.
    name_taken: Option<ObjectKey>,
    /// What had its name, read live.
    namesake: Option<Option<Object>>,
}

/// The revision of the template a workload has now.
pub(crate) enum Current {
    /// It is there.
    Known {
        all: Vec<Revision>,
        current: Revision,
        actions: Vec<Action>,
    },
    /// It has to be made, or its owner found out about, before anything else.
    First(Vec<Action>),
    /// The name it would have is somebody else's: hash once more.
    Collision,
}

impl History {
    pub(crate) fn observe(revisions: &Cache, owner: &Owner, outcomes: &Outcomes) -> Self {
        let owned = revisions.find(&CONTROLLER_UID, &owner.uid).into_iter();
        let orphans = revisions.find(&CONTROLLER_UID, "").into_iter();
        let orphans = orphans.filter(|revision| revision.key().namespace == owner.key.namespace);
        let taken = |failure: &Failure| {
            failure
                .error
                .is_already_exists()
                .then(|| failure.key.clone())
        };
        let reads = &outcomes.reads;
        let namesake = reads
            .iter()
            .find(|(of, ..)| *of == resource_of::<ControllerRevision>());
        Self {
            candidates: owned
                .chain(orphans)
                .filter_map(|revision| Revision::of(&revision))
                .collect(),
            name_taken: outcomes
                .failed(Verb::Create, "controllerrevisions")
                .and_then(taken),
            namesake: namesake.map(|(_, _, answer)| answer.clone()),
        }
    }

    /// Finds the revision of `template`, or plans to make it.
    pub(crate) fn current(
        &self,
        owner: &Owner,
        selector: &LabelSelector,
        adoption: Adoption,
        template: &Value,
        collisions: i32,
    ) -> Current {
        let resource = resource_of::<ControllerRevision>();
        let candidates = self.candidates.clone();
        let claimed = claim(
            owner,
            selector,
            &resource,
            "",
            adoption,
            candidates,
            |revision| &revision.index,
        );
        let (mut all, mut actions) = match claimed {
            Claim::AskFirst(ask) => return Current::First(vec![ask]),
            Claim::Settled { owned, actions } => (owned, actions),
        };
        all.sort_by(|one, other| (one.number, one.name()).cmp(&(other.number, other.name())));
        let data = data_of(template);
        let is_equal = |revision: &&Revision| significant(&revision.data) == significant(&data);
        let latest = all
            .iter()
            .map(|revision| revision.number)
            .max()
            .unwrap_or(0);
        let Some(current) = all.iter().rev().find(is_equal).cloned() else {
            return self.make(owner, template, data, collisions, latest + 1);
        };
        if current.number < latest {
            // An old template came back: its revision becomes the newest.
            let patch = json!({
                "metadata": {"resourceVersion": current.version.to_string()}, "revision": latest + 1,
            });
            actions.push(Action::merge::<ControllerRevision>(
                current.index.key.clone(),
                patch,
            ));
        }
        Current::Known {
            all,
            current,
            actions,
        }
    }

    fn make(
        &self,
        owner: &Owner,
        template: &Value,
        data: Value,
        collisions: i32,
        number: i64,
    ) -> Current {
        if let Some(key) = &self.name_taken {
            return Current::First(vec![Action::read::<ControllerRevision>(key.clone())]);
        }
        if let Some(Some(namesake)) = &self.namesake {
            let is_ours = namesake
                .owner_references()
                .iter()
                .any(|one| one.uid == owner.uid);
            let same = namesake.at(&["data"]).map(significant) == Some(significant(&data));
            // If it is the one to be made, the cache will bring it.
            return if is_ours && same {
                Current::First(Vec::new())
            } else {
                Current::Collision
            };
        }
        let hash = hash(template, collisions);
        let mut labels = template
            .pointer("/metadata/labels")
            .cloned()
            .unwrap_or_else(|| json!({}));
        labels[REVISION_HASH] = hash.clone().into();
        let object = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": format!("{}-{hash}", owner.key.name), "namespace": owner.key.namespace,
                "labels": labels, "ownerReferences": [owner.reference()],
            },
            "data": data, "revision": number,
        });
        Current::First(vec![Action::Create {
            resource: resource_of::<ControllerRevision>(),
            object: Box::new(Object::from_value(object).expect("it is an object")),
            announcement: None,
        }])
    }
}

/// The patch that gives a workload this template again.
fn data_of(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".into(), "replace".into());
    }
    json!({"spec": {"template": template}})
}

/// Old revisions beyond the limit that nobody uses, oldest first.
pub(crate) fn expired(all: &[Revision], used: &BTreeSet<&str>, limit: Option<i32>) -> Vec<Action> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let unused: Vec<&Revision> = all
        .iter()
        .filter(|revision| !used.contains(revision.name()) && !used.contains(revision.hash()))
        .collect();
    let surplus = unused.len().saturating_sub(limit);
    let delete = |revision: &&Revision| {
        Action::delete::<ControllerRevision>(revision.index.key.clone(), revision.index.uid.clone())
    };
    unused.iter().take(surplus).map(delete).collect()
}

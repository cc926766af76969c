//! A deployment's replica sets as one turn would leave them; becomes at most one write per set.

use apimachinery::Object;
use controller::{Action, Event, EventType};
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use super::proportions::{Limits, number};
use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS};
use super::{Set, View};
use crate::ownership::Owner;
use crate::template_hash::{POD_TEMPLATE_HASH, hash};

/// A set with what the turn changes of it.
#[derive(Clone, Debug)]
pub(super) struct Drafted {
    /// As it is in the API; for one to be created, as it would begin.
    pub(super) set: Set,
    pub(super) is_created: bool,
    pub(super) replicas: i32,
    pub(super) annotations: std::collections::BTreeMap<String, String>,
    pub(super) min_ready_seconds: i32,
}

impl Drafted {
    pub(super) fn of(set: Set) -> Self {
        Self {
            is_created: false,
            replicas: set.replicas,
            annotations: set.annotations.clone(),
            min_ready_seconds: set.min_ready_seconds,
            set,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.set.index.key.name
    }

    /// Sets the size, and the annotations that later turns scale by. True if the size changes.
    pub(super) fn scale(&mut self, replicas: i32, limits: &Limits) -> bool {
        let is_changed = self.replicas != replicas;
        if is_changed {
            self.replicas = replicas;
            self.annotate(limits);
        }
        is_changed
    }

    pub(super) fn annotate(&mut self, limits: &Limits) {
        self.annotations
            .insert(DESIRED_REPLICAS.into(), limits.replicas.to_string());
        self.annotations.insert(
            MAX_REPLICAS.into(),
            (limits.replicas + limits.max_surge).to_string(),
        );
    }

    /// The write that makes the draft true, and the event that tells of it.
    pub(super) fn action(&self, view: &View) -> Option<Action> {
        if self.is_created {
            let mut actions = vec![self.create(view)];
            actions.extend((self.replicas > 0).then(|| self.scaled_event(view, 0)));
            return Some(Action::Sequence(actions));
        }
        let mut patch = json!({"metadata": {"resourceVersion": self.set.revision.to_string()}});
        let mut is_changed = false;
        if self.annotations != self.set.annotations {
            patch["metadata"]["annotations"] = json!(self.annotations);
            is_changed = true;
        }
        if self.min_ready_seconds != self.set.min_ready_seconds {
            patch["spec"]["minReadySeconds"] = self.min_ready_seconds.into();
            is_changed = true;
        }
        let is_scaled = self.replicas != self.set.replicas;
        if is_scaled {
            patch["spec"]["replicas"] = self.replicas.into();
        }
        let write = Action::merge::<ReplicaSet>(self.set.index.key.clone(), patch);
        if is_scaled {
            Some(Action::Sequence(vec![
                write,
                self.scaled_event(view, self.set.replicas),
            ]))
        } else {
            is_changed.then_some(write)
        }
    }

    fn scaled_event(&self, view: &View, from: i32) -> Action {
        let direction = if from < self.replicas { "up" } else { "down" };
        let message = format!(
            "Scaled {direction} replica set {} from {from} to {}",
            self.name(),
            self.replicas
        );
        Action::Emit(Event {
            regarding: view.owner.as_event_object(),
            event_type: EventType::Normal,
            reason: "ScalingReplicaSet".into(),
            message,
        })
    }

    fn create(&self, view: &View) -> Action {
        let mut selector = view.spec.selector.clone();
        selector["matchLabels"][POD_TEMPLATE_HASH] =
            self.set.template["metadata"]["labels"][POD_TEMPLATE_HASH].clone();
        let object = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": self.name(), "namespace": view.owner.key.namespace,
                "labels": self.set.template["metadata"]["labels"],
                "annotations": self.annotations,
                "ownerReferences": [view.owner.reference()],
            },
            "spec": {
                "replicas": self.replicas, "minReadySeconds": self.min_ready_seconds,
                "selector": selector, "template": self.set.template,
            },
        });
        Action::Create {
            resource: kube_client::resource_of::<ReplicaSet>(),
            object: Box::new(Object::from_value(object).expect("it is an object")),
            announcement: None,
        }
    }
}

/// A new set of the deployment's template, without pods yet.
pub(super) fn new_set(view: &View) -> Drafted {
    let mut template = view.spec.template.clone();
    let hash = hash(&template, view.status.collision_count.unwrap_or(0));
    let name = set_name(&view.owner, &hash);
    if !template["metadata"]["labels"].is_object() {
        template["metadata"]["labels"] = json!({});
    }
    template["metadata"]["labels"][POD_TEMPLATE_HASH] = Value::String(hash);
    let key = apimachinery::ObjectKey::namespaced(view.owner.key.namespace.clone(), name);
    let index = apimachinery::ObjectIndex {
        key,
        ..apimachinery::ObjectIndex::default()
    };
    Drafted {
        set: Set {
            index: std::sync::Arc::new(index),
            revision: 0,
            created: String::new(),
            annotations: std::collections::BTreeMap::new(),
            replicas: 0,
            min_ready_seconds: view.spec.min_ready_seconds,
            template,
            status: super::SetStatus::default(),
            unfinished_pods: 0,
        },
        is_created: true,
        replicas: 0,
        annotations: std::collections::BTreeMap::new(),
        min_ready_seconds: view.spec.min_ready_seconds,
    }
}

/// The deployment's name, cut so that the hash fits a DNS subdomain.
fn set_name(owner: &Owner, hash: &str) -> String {
    const NAME_MAX: usize = 253;
    let room = NAME_MAX - 1 - hash.len();
    let base = owner.key.name.get(..room).unwrap_or(&owner.key.name);
    format!("{base}-{hash}")
}

pub(super) fn total(sets: &[Drafted]) -> i32 {
    sets.iter().map(|set| set.replicas).sum()
}

pub(super) fn available(sets: &[Drafted]) -> i32 {
    sets.iter()
        .map(|set| set.set.status.available_replicas)
        .sum()
}

/// Upstream rounds halves away from zero.
pub(super) fn round(value: f64) -> i32 {
    number(value.round())
}

//! Who depends on whom: every object with owners or with a deletion to carry out, and the dependents of every uid.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apimachinery::{ObjectIndex, OwnerReference};
use controller::Queue;
use informer::Change;
use parking_lot::Mutex;

use super::{FOREGROUND, ORPHAN};
use crate::discovery::Discovered;

/// An object in the graph.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) resource: Arc<Discovered>,
    pub(super) index: Arc<ObjectIndex>,
}

impl Node {
    pub(super) fn is_deleting_dependents(&self) -> bool {
        leaves_with(&self.index, FOREGROUND)
    }

    pub(super) fn is_orphaning(&self) -> bool {
        leaves_with(&self.index, ORPHAN)
    }
}

fn leaves_with(index: &ObjectIndex, finalizer: &str) -> bool {
    index.is_being_deleted && index.finalizers.iter().any(|one| **one == *finalizer)
}

pub(super) struct Graph {
    state: Mutex<State>,
    queue: Arc<Queue<String>>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<Box<str>, Node>,
    dependents: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
}

impl Graph {
    pub(super) fn new(queue: Arc<Queue<String>>) -> Self {
        Self {
            state: Mutex::default(),
            queue,
        }
    }

    pub(super) fn node(&self, uid: &str) -> Option<Node> {
        self.state.lock().nodes.get(uid).cloned()
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Node> {
        let state = self.state.lock();
        let uids = state.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| state.nodes.get(uid))
            .cloned()
            .collect()
    }

    /// Dependents without which the owner may not go.
    pub(super) fn blocking_dependents(&self, uid: &str) -> Vec<Node> {
        let blocks = |node: &Node| {
            node.index
                .owners
                .iter()
                .any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        self.dependents(uid).into_iter().filter(blocks).collect()
    }

    /// Takes a change in and queues whatever it may have set free.
    ///
    /// `is_present` tells whether a cache has the owner of an object in this namespace.
    pub(super) fn apply(
        &self,
        resource: &Arc<Discovered>,
        change: &Change,
        is_present: &dyn Fn(&OwnerReference, &str) -> bool,
    ) {
        let old = change.old.as_ref().map(|object| &object.index);
        let new = change.new.as_ref().map(|object| &object.index);
        // A deletion and a creation of the same name may come as one change.
        let (gone, old) = match (old, new) {
            (Some(old), Some(new)) if old.uid != new.uid => (Some(old), None),
            (Some(old), None) => (Some(old), None),
            (old, _) => (None, old),
        };
        if let Some(gone) = gone {
            self.remove(gone);
        }
        if let Some(new) = new {
            self.upsert(resource, old, new, is_present);
        }
    }

    fn remove(&self, gone: &Arc<ObjectIndex>) {
        let mut state = self.state.lock();
        // The node may carry owners that this last state has lost.
        let known = state
            .nodes
            .remove(&*gone.uid)
            .map_or_else(|| Arc::clone(gone), |node| node.index);
        for owner in &known.owners {
            state.forget_dependent(&owner.uid, &gone.uid);
        }
        let mut woken: Vec<String> = state
            .dependents
            .get(&*gone.uid)
            .into_iter()
            .flatten()
            .map(std::string::ToString::to_string)
            .collect();
        woken.extend(known.owners.iter().map(|owner| owner.uid.clone()));
        drop(state);
        woken.into_iter().for_each(|uid| self.queue.add(uid));
    }

    fn upsert(
        &self,
        resource: &Arc<Discovered>,
        old: Option<&Arc<ObjectIndex>>,
        new: &Arc<ObjectIndex>,
        is_present: &dyn Fn(&OwnerReference, &str) -> bool,
    ) {
        let node = Node {
            resource: Arc::clone(resource),
            index: Arc::clone(new),
        };
        let is_leaving = node.is_deleting_dependents() || node.is_orphaning();
        let old_owners = old.map(|old| &*old.owners).unwrap_or_default();
        let mut woken: Vec<String> = Vec::new();
        if *old_owners != *new.owners {
            // Owners it no longer blocks may go on.
            woken.extend(old_owners.iter().map(|owner| owner.uid.clone()));
        }
        let mut state = self.state.lock();
        for owner in old_owners {
            state.forget_dependent(&owner.uid, &new.uid);
        }
        for owner in &new.owners {
            let dependents = state
                .dependents
                .entry(owner.uid.as_str().into())
                .or_default();
            dependents.insert(new.uid.as_str().into());
            let waits = state
                .nodes
                .get(&*owner.uid)
                .is_some_and(Node::is_deleting_dependents);
            woken.extend(waits.then(|| new.uid.clone()));
        }
        if new.owners.is_empty() && !is_leaving {
            state.nodes.remove(&*new.uid);
        } else {
            state.nodes.insert(new.uid.as_str().into(), node);
        }
        if is_leaving {
            woken.push(new.uid.clone());
            let dependents = state.dependents.get(&*new.uid).into_iter().flatten();
            woken.extend(dependents.map(std::string::ToString::to_string));
        }
        drop(state);
        // Looked at after the dependent is known: an owner that goes in between wakes it itself.
        let is_lost = *old_owners != *new.owners
            && new
                .owners
                .iter()
                .any(|owner| !is_present(owner, &new.key.namespace));
        woken.extend(is_lost.then(|| new.uid.clone()));
        woken.into_iter().for_each(|uid| self.queue.add(uid));
    }
}

impl State {
    fn forget_dependent(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

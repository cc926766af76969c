//! What caches can be searched by besides name and namespace.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{ObjectIndex, StoredObject};
use serde::Deserialize;

/// A way to find objects: a name, and the values under which an object is found.
#[derive(Clone, Copy, Debug)]
pub struct Index {
    pub name: &'static str,
    pub values: fn(&StoredObject) -> Vec<String>,
}

/// The uid of every owner.
pub const OWNER_UID: Index = Index {
    name: "owner uid",
    values: |object| {
        object
            .index
            .owners
            .iter()
            .map(|owner| owner.uid.clone())
            .collect()
    },
};

/// The uid of the owner that controls the object; empty without one.
pub const CONTROLLER_UID: Index = Index {
    name: "controller uid",
    values: |object| {
        vec![
            object
                .index
                .controller()
                .map(|owner| owner.uid.clone())
                .unwrap_or_default(),
        ]
    },
};

/// A pod's `spec.nodeName`; empty while it has none.
pub const NODE_NAME: Index = Index {
    name: "spec.nodeName",
    values: |pod| vec![node_name(pod)],
};

fn node_name(pod: &StoredObject) -> String {
    #[derive(Deserialize)]
    struct Pod<'a> {
        #[serde(borrow, default)]
        spec: Spec<'a>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec<'a> {
        #[serde(borrow)]
        node_name: Cow<'a, str>,
    }
    if let Some(name) = pod.index.field("spec.nodeName") {
        return name.to_owned();
    }
    pod.view::<Pod<'_>>()
        .map(|pod| pod.spec.node_name.into_owned())
        .unwrap_or_default()
}

/// An index with what it has found so far: per value, objects in the order of their keys.
#[derive(Debug)]
pub(crate) struct IndexState {
    pub(crate) index: Index,
    found: BTreeMap<Box<str>, Vec<Arc<ObjectIndex>>>,
}

impl IndexState {
    pub(crate) fn new(index: Index) -> Self {
        Self {
            index,
            found: BTreeMap::new(),
        }
    }

    pub(crate) fn replace(&mut self, old: Option<&StoredObject>, new: Option<&StoredObject>) {
        for value in old.map(self.index.values).unwrap_or_default() {
            self.remove(&value, old.expect("it has just given the value"));
        }
        for value in new.map(self.index.values).unwrap_or_default() {
            self.insert(value, new.expect("it has just given the value"));
        }
    }

    fn remove(&mut self, value: &str, object: &StoredObject) {
        let Some(found) = self.found.get_mut(value) else {
            return;
        };
        if let Ok(at) = found.binary_search_by(|entry| entry.key.cmp(object.key())) {
            found.remove(at);
        }
        if found.is_empty() {
            self.found.remove(value);
        }
    }

    fn insert(&mut self, value: String, object: &StoredObject) {
        let found = self.found.entry(value.into()).or_default();
        match found.binary_search_by(|entry| entry.key.cmp(object.key())) {
            Ok(at) => found[at] = Arc::clone(&object.index),
            Err(at) => found.insert(at, Arc::clone(&object.index)),
        }
    }

    pub(crate) fn find(&self, value: &str) -> &[Arc<ObjectIndex>] {
        self.found.get(value).map(Vec::as_slice).unwrap_or_default()
    }
}

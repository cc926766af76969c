//! Where the objects of one kind are kept, and what is indexed of them.

use apimachinery::{GroupResource, ObjectKey};
use kv::{Durability, KeyRange};
use registry::{Description, Retention, Scope, SelectablePath};

/// The objects of one kind in the store.
#[derive(Clone, Debug)]
pub struct Collection {
    pub resource: GroupResource,
    /// Ends in a slash.
    pub prefix: String,
    pub scope: Scope,
    pub retention: Retention,
    pub selectable_fields: Vec<SelectablePath>,
}

impl Collection {
    pub fn of(description: &Description) -> Self {
        Self {
            resource: description.group_resource(),
            prefix: description.prefix.clone(),
            scope: description.scope,
            retention: description.retention,
            selectable_fields: description.selectable_fields.clone(),
        }
    }

    /// The key of one object in the store.
    pub fn key(&self, object: &ObjectKey) -> Vec<u8> {
        match self.scope {
            Scope::Namespaced => {
                format!("{}{}/{}", self.prefix, object.namespace, object.name).into_bytes()
            }
            Scope::Cluster => format!("{}{}", self.prefix, object.name).into_bytes(),
        }
    }

    /// When a write of an object counts as done.
    pub(crate) fn durability(&self) -> Durability {
        match self.retention {
            Retention::Relaxed => Durability::Relaxed,
            Retention::Durable | Retention::Seconds(_) => Durability::Durable,
        }
    }

    /// The object that a key of the store belongs to.
    pub(crate) fn object_key(&self, key: &[u8]) -> Option<ObjectKey> {
        let name = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        match self.scope {
            Scope::Namespaced => {
                let (namespace, name) = name.split_once('/')?;
                Some(ObjectKey::namespaced(namespace, name))
            }
            Scope::Cluster => Some(ObjectKey::cluster(name)),
        }
    }

    /// Every object, or those of one namespace.
    pub(crate) fn range(&self, namespace: Option<&str>) -> KeyRange {
        match (self.scope, namespace) {
            (Scope::Namespaced, Some(namespace)) => {
                KeyRange::prefix(format!("{}{namespace}/", self.prefix))
            }
            _ => KeyRange::prefix(self.prefix.clone()),
        }
    }
}

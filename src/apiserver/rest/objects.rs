//! Objects straight from the store, for authentication, authorization and admission, which come before any request is served.

use std::sync::Arc;

use apimachinery::{ObjectKey, StoredObject};
use async_trait::async_trait;
use auth::Objects;
use env::Clock;
use kv::Kv;
use registry::RESOURCES;
use storage::{Collection, FieldIndex, ListOptions, ObjectStore};

/// Reads built-in objects of the store.
#[derive(Debug)]
pub struct StoreObjects {
    store: ObjectStore,
    pods_by_node: FieldIndex,
}

impl StoreObjects {
    pub fn new(kv: Arc<dyn Kv>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            store: ObjectStore::new(kv, clock),
            pods_by_node: FieldIndex::new(
                collection("", "pods").expect("pods are a kind"),
                "spec.nodeName",
            ),
        })
    }
}

/// Where a built-in kind is kept.
pub(crate) fn collection(group: &str, resource: &str) -> Option<Collection> {
    RESOURCES
        .iter()
        .map(|resource| resource.description())
        .find(|kind| {
            kind.kind.group == group && kind.plural == resource && kind.is_stored_version()
        })
        .map(|kind| Collection::of(&kind))
}

#[async_trait]
impl Objects for StoreObjects {
    async fn get(&self, group: &str, resource: &str, key: &ObjectKey) -> Option<StoredObject> {
        self.store
            .get(&collection(group, resource)?, key)
            .await
            .ok()
    }

    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<StoredObject> {
        let Some(collection) = collection(group, resource) else {
            return Vec::new();
        };
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        let options = ListOptions {
            namespace,
            ..ListOptions::default()
        };
        self.store
            .list(&collection, &options)
            .await
            .map(|list| list.items)
            .unwrap_or_default()
    }

    async fn pods_on_node(&self, node: &str) -> Vec<StoredObject> {
        self.store
            .with_field(&self.pods_by_node, node)
            .await
            .unwrap_or_default()
    }
}

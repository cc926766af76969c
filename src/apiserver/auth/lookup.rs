//! The few objects that authentication, authorization and admission read.

use apimachinery::{ObjectKey, StoredObject};
use async_trait::async_trait;

/// Reads newest objects straight from the store. Resources are named by group and plural.
#[async_trait]
pub trait Objects: Send + Sync + std::fmt::Debug {
    async fn get(&self, group: &str, resource: &str, key: &ObjectKey) -> Option<StoredObject>;

    /// All objects of a resource; `namespace` is empty for cluster-wide resources.
    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<StoredObject>;

    /// Pods of one node; an index makes it cheap.
    async fn pods_on_node(&self, node: &str) -> Vec<StoredObject>;
}

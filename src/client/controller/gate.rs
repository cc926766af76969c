//! Read your writes: what a cache must have seen before the next turn of a key.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersionResource, ObjectKey};
use informer::Cache;
use kube_client::{Client, ClientError, collection_path, with_query};
use serde::Deserialize;

/// A cache that is still behind after this time has lost its server; the turn goes on with what is known.
const GATE_WAIT_MAX: Duration = Duration::from_secs(30);

/// One condition on one cache.
#[derive(Debug)]
pub enum Gate {
    /// It has come this far.
    Reached(Arc<Cache>, i64),
    /// The object with this uid is gone or being deleted.
    Leaving(Arc<Cache>, ObjectKey, String),
}

impl Gate {
    pub async fn pass(&self) {
        let passed = match self {
            Self::Reached(cache, revision) => {
                env::timeout(GATE_WAIT_MAX, cache.wait_for_revision(*revision)).await
            }
            Self::Leaving(cache, key, uid) => {
                let is_leaving = |cache: &Cache| {
                    cache.get(key).is_none_or(|object| {
                        object.index.uid != *uid || object.index.is_being_deleted
                    })
                };
                env::timeout(GATE_WAIT_MAX, cache.wait_until(is_leaving)).await
            }
        };
        if passed.is_err() {
            tracing::warn!(gate = ?self, "a cache has not seen a write for a long time");
        }
    }
}

/// A revision that is not older than any write answered or lost before now.
pub(crate) async fn current_revision(
    client: &Client,
    resource: &GroupVersionResource,
) -> Result<i64, ClientError> {
    #[derive(Deserialize)]
    struct List {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        resource_version: String,
    }
    let path = with_query(collection_path(resource, None), "limit", "1");
    let list: List = client.get_json(&path).await?;
    list.metadata.resource_version.parse().map_err(|_error| {
        ClientError::Malformed(format!(
            "a list at resourceVersion {:?}",
            list.metadata.resource_version
        ))
    })
}

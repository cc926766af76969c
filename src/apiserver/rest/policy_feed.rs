//! Keeps the RBAC authorizer as the store has roles and bindings.

use std::sync::Arc;

use apimachinery::ObjectKey;
use auth::RbacAuthorizer;
use auth::rbac::PolicyChange;
use env::Shutdown;
use kv::{Event, KeyRange, Kv, RangeRequest, WatchMessage, WatchRequest};

use crate::objects::collection;

const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = [
    "clusterroles",
    "clusterrolebindings",
    "roles",
    "rolebindings",
];

/// Reads all roles and bindings into `rbac`, and returns after the last; then a task for each kind follows the changes.
pub async fn feed_policy(
    kv: Arc<dyn Kv>,
    rbac: Arc<RbacAuthorizer>,
    shutdown: &Shutdown,
) -> kv::Result<()> {
    for resource in RESOURCES {
        let Some(prefix) = collection(GROUP, resource).map(|collection| collection.prefix) else {
            continue;
        };
        let feed = Feed {
            kv: kv.clone(),
            rbac: rbac.clone(),
            resource,
            prefix,
        };
        let revision = feed.load().await?;
        let shutdown = shutdown.clone();
        env::spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.requested() => {}
                () = feed.follow(revision) => {}
            }
        });
    }
    Ok(())
}

struct Feed {
    kv: Arc<dyn Kv>,
    rbac: Arc<RbacAuthorizer>,
    resource: &'static str,
    prefix: String,
}

impl Feed {
    async fn load(&self) -> kv::Result<i64> {
        let all = self
            .kv
            .range(RangeRequest::newest(KeyRange::prefix(self.prefix.clone())))
            .await?;
        let objects = all
            .entries
            .iter()
            .filter_map(|entry| Some((self.name(&entry.key)?, &*entry.value)));
        self.rbac.replace(self.resource, objects);
        Ok(all.revision)
    }

    async fn follow(&self, mut revision: i64) {
        loop {
            let request = WatchRequest {
                range: KeyRange::prefix(self.prefix.clone()),
                start_revision: Some(revision + 1),
            };
            let Ok(mut watch) = self.kv.watch(request).await else {
                return;
            };
            while let Some(message) = watch.messages.recv().await {
                match message {
                    WatchMessage::Events(events) => {
                        events.iter().for_each(|event| self.take(event));
                        revision = events.last().map_or(revision, Event::revision);
                    }
                    WatchMessage::Progress(seen) => revision = seen,
                    WatchMessage::Compacted { .. } => match self.load().await {
                        Ok(newest) => revision = newest,
                        Err(_closed) => return,
                    },
                }
            }
            if self.kv.status().await.is_err() {
                return;
            }
        }
    }

    fn take(&self, event: &Event) {
        let (key, change) = match event {
            Event::Put { entry, .. } => (&entry.key, PolicyChange::Set(&entry.value)),
            Event::Delete { key, .. } => (key, PolicyChange::Removed),
        };
        if let Some(name) = self.name(key) {
            self.rbac.apply(self.resource, &name, change);
        }
    }

    fn name(&self, key: &[u8]) -> Option<ObjectKey> {
        let name = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        Some(match name.split_once('/') {
            Some((namespace, name)) => ObjectKey::namespaced(namespace, name),
            None => ObjectKey::cluster(name),
        })
    }
}

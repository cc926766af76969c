//! One shared cache per resource there is, feeding the graph; follows resources as they come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersion, GroupVersionResource, OwnerReference};
use informer::{Cache, Factory};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube_client::Client;
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};

use super::graph::Graph;
use super::owner_key;
use crate::discovery::{Discovered, discover};

/// Changes of resource definitions within this time are looked at together.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a first list may take.
const SYNC_WITHIN: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Monitors {
    client: Client,
    factory: Factory,
    graph: Arc<Graph>,
    known: Arc<RwLock<Known>>,
    is_synced: watch::Sender<bool>,
}

/// A resource that is new here, and its cache.
type Fresh = (Arc<Discovered>, Arc<Cache>);
type Known = BTreeMap<GroupVersionResource, Monitor>;

pub(super) struct Monitor {
    resource: Arc<Discovered>,
    cache: Arc<Cache>,
}

impl Monitors {
    pub(super) fn new(client: Client, factory: Factory, graph: Arc<Graph>) -> Self {
        Self {
            client,
            factory,
            graph,
            known: Arc::default(),
            is_synced: watch::Sender::new(false),
        }
    }

    pub(super) async fn wait_for_first_sync(&self) {
        let mut synced = self.is_synced.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let _synced = synced.wait_for(|synced| *synced).await;
    }

    /// Keeps one monitor for each resource, asking again whenever a definition changes. Never returns.
    pub(super) async fn follow_discovery(&self) {
        let changed = Arc::new(Notify::new());
        let definitions = [
            self.factory.all::<CustomResourceDefinition>(),
            self.factory.all::<APIService>(),
        ];
        for cache in &definitions {
            let changed = Arc::clone(&changed);
            cache.observe(move |_change| changed.notify_one());
        }
        loop {
            let is_complete = self.refresh().await;
            self.is_synced.send_replace(true);
            if is_complete {
                changed.notified().await;
                env::sleep(SETTLE).await;
            } else {
                env::sleep(RETRY_AFTER).await;
            }
        }
    }

    /// True if every group answered, and every resource could be listed.
    async fn refresh(&self) -> bool {
        let found = match discover(&self.client).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "discovery failed");
                return false;
            }
        };
        let is_complete = found.failures.is_empty();
        let watched: Vec<Discovered> = found.resources.into_iter().filter(is_watched).collect();
        if is_complete {
            self.known
                .write()
                .retain(|resource, _| watched.iter().any(|found| found.resource == *resource));
        }
        let mut fresh = Vec::new();
        for resource in watched {
            if self.known.read().contains_key(&resource.resource) {
                continue;
            }
            let resource = Arc::new(resource);
            let cache = self.factory.all_of(resource.resource.clone());
            let monitor = Monitor {
                resource: Arc::clone(&resource),
                cache: Arc::clone(&cache),
            };
            self.known
                .write()
                .insert(resource.resource.clone(), monitor);
            fresh.push((resource, cache));
        }
        let (synced, unsynced) = self.sync(fresh).await;
        // Only now, so that an owner in a cache that was still empty is not looked for in vain.
        for (resource, cache) in synced {
            self.feed(resource, &cache);
        }
        is_complete && unsynced == 0
    }

    /// Waits for the first lists. A resource that went away in the meantime never has one: it is forgotten, and asked for again.
    async fn sync(&self, fresh: Vec<Fresh>) -> (Vec<Fresh>, usize) {
        let count = fresh.len();
        let mut synced = Vec::with_capacity(count);
        for (resource, cache) in fresh {
            match env::timeout(SYNC_WITHIN, cache.wait_for_sync()).await {
                Ok(()) => synced.push((resource, cache)),
                Err(_) => drop(self.known.write().remove(&resource.resource)),
            }
        }
        let unsynced = count - synced.len();
        (synced, unsynced)
    }

    fn feed(&self, resource: Arc<Discovered>, cache: &Cache) {
        let graph = Arc::clone(&self.graph);
        let known = Arc::downgrade(&self.known);
        cache.observe(move |change| {
            let Some(known) = known.upgrade() else { return };
            let is_present =
                |owner: &OwnerReference, namespace: &str| has(&known.read(), owner, namespace);
            graph.apply(&resource, change, &is_present);
        });
    }

    /// The resource of an owner's kind.
    pub(super) fn resource_of(&self, owner: &OwnerReference) -> Option<Arc<Discovered>> {
        find(&self.known.read(), owner).map(|monitor| Arc::clone(&monitor.resource))
    }

    /// Has the owner arrived in its cache?
    pub(super) fn has_seen(&self, owner: &OwnerReference, namespace: &str) -> bool {
        has(&self.known.read(), owner, namespace)
    }
}

/// The same group and kind, in whatever version it is watched.
fn find<'a>(known: &'a Known, owner: &OwnerReference) -> Option<&'a Monitor> {
    let group = GroupVersion::parse(&owner.api_version).group;
    known.values().find(|monitor| {
        monitor.resource.kind == owner.kind && monitor.resource.resource.group == group
    })
}

fn has(known: &Known, owner: &OwnerReference, namespace: &str) -> bool {
    let Some(monitor) = find(known, owner) else {
        return false;
    };
    let namespace = if monitor.resource.is_namespaced {
        namespace
    } else {
        ""
    };
    monitor
        .cache
        .get(&owner_key(owner, namespace))
        .is_some_and(|found| found.index.uid == owner.uid)
}

/// Events come in numbers, own nothing and expire by themselves.
fn is_watched(resource: &Discovered) -> bool {
    resource.can("list") && resource.can("watch") && resource.resource.resource != "events"
}

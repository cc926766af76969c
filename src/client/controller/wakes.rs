//! Which changes wake which keys.

use std::sync::{Arc, Weak};

use apimachinery::{GroupVersionResource, ObjectKey, StoredObject};
use informer::{Cache, Change};

use crate::Queue;

type Map = Box<dyn Fn(&Change) -> Vec<ObjectKey> + Send + Sync>;

/// Filled by a controller with the caches it reads.
#[derive(Default)]
pub struct Wakes {
    sources: Vec<(Arc<Cache>, Option<Map>)>,
}

impl std::fmt::Debug for Wakes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Wakes")
            .field("sources", &self.sources.len())
            .finish()
    }
}

impl Wakes {
    /// The objects that keys name.
    pub fn primary(&mut self, cache: &Arc<Cache>) {
        self.mapped(cache, |change| vec![change.key().clone()]);
    }

    /// Objects whose controller, of this kind, is woken when they change; also one that was the controller until now.
    pub fn owned(&mut self, cache: &Arc<Cache>, owner_kind: &'static str) {
        self.mapped(cache, move |change| owners_of(change, owner_kind));
    }

    pub fn mapped(
        &mut self,
        cache: &Arc<Cache>,
        map: impl Fn(&Change) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) {
        self.sources.push((Arc::clone(cache), Some(Box::new(map))));
    }

    /// A cache that is only read; nothing in it wakes anybody.
    pub fn read(&mut self, cache: &Arc<Cache>) {
        self.sources.push((Arc::clone(cache), None));
    }

    /// Connects the caches to a queue and gives them back.
    pub(crate) fn connect(self, queue: &Arc<Queue<ObjectKey>>) -> Vec<Arc<Cache>> {
        let mut caches: Vec<Arc<Cache>> = Vec::with_capacity(self.sources.len());
        for (cache, map) in self.sources {
            if let Some(map) = map {
                let queue: Weak<_> = Arc::downgrade(queue);
                cache.observe(move |change| {
                    if let Some(queue) = queue.upgrade() {
                        map(change).into_iter().for_each(|key| queue.add(key));
                    }
                });
            }
            if !caches.iter().any(|known| Arc::ptr_eq(known, &cache)) {
                caches.push(cache);
            }
        }
        caches
    }
}

fn owners_of(change: &Change, owner_kind: &str) -> Vec<ObjectKey> {
    let owner = |object: &StoredObject| {
        let owner = object
            .index
            .controller()
            .filter(|owner| owner.kind == owner_kind)?;
        Some(ObjectKey::namespaced(
            object.key().namespace.clone(),
            owner.name.clone(),
        ))
    };
    let mut keys: Vec<ObjectKey> = [&change.new, &change.old]
        .into_iter()
        .flatten()
        .filter_map(owner)
        .collect();
    keys.dedup();
    keys
}

/// The cache that holds all objects of a resource, if there is one among `caches`.
pub(crate) fn cache_of<'a>(
    caches: &'a [Arc<Cache>],
    resource: &GroupVersionResource,
) -> Option<&'a Arc<Cache>> {
    caches.iter().find(|cache| {
        let request = cache.request();
        request.resource == *resource
            && request.namespace.is_none()
            && request.label_selector.is_empty()
            && request.field_selector.is_empty()
    })
}

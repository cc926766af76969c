//! One cache per selection in a process, shared by everybody who asks for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use apimachinery::GroupVersionResource;
use env::{Rng, Shutdown};
use k8s_openapi::Resource;
use kube_client::{Client, ListRequest, resource_of};
use parking_lot::Mutex;

use crate::Cache;
use crate::reflector::Reflector;

/// Makes and shares caches. Cloning it shares them too.
#[derive(Clone, Debug)]
pub struct Factory {
    client: Client,
    rng: Arc<dyn Rng>,
    caches: Arc<Mutex<BTreeMap<ListRequest, Weak<Cache>>>>,
}

/// All objects of a resource, in all namespaces.
pub fn everything(resource: GroupVersionResource) -> ListRequest {
    ListRequest {
        resource,
        namespace: None,
        label_selector: String::new(),
        field_selector: String::new(),
    }
}

impl Factory {
    /// Caches list and watch as `client`.
    pub fn new(client: Client, rng: Arc<dyn Rng>) -> Self {
        Self {
            client,
            rng,
            caches: Arc::default(),
        }
    }

    /// The cache of a selection. It starts when the first asks and ends when the last lets go of it, so hold on to it.
    ///
    /// Must be called within a runtime.
    pub fn cache(&self, request: ListRequest) -> Arc<Cache> {
        let mut caches = self.caches.lock();
        caches.retain(|_, cache| cache.strong_count() > 0);
        if let Some(cache) = caches.get(&request).and_then(Weak::upgrade) {
            return cache;
        }
        let (trigger, shutdown) = Shutdown::new();
        let cache = Arc::new(Cache::new(request.clone(), trigger));
        caches.insert(request.clone(), Arc::downgrade(&cache));
        let reflector = Reflector {
            client: self.client.clone(),
            request,
            cache: Arc::downgrade(&cache),
            rng: Arc::clone(&self.rng),
            shutdown,
        };
        env::spawn(reflector.run());
        cache
    }

    /// All objects of type `K`.
    pub fn all<K: Resource>(&self) -> Arc<Cache> {
        self.cache(everything(resource_of::<K>()))
    }

    /// All objects of a resource known at run time.
    pub fn all_of(&self, resource: GroupVersionResource) -> Arc<Cache> {
        self.cache(everything(resource))
    }
}

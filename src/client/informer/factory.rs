//! One cache per selection in a process, shared by everybody who asks for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use apimachinery::GroupVersionResource;
use env::{Rng, Shutdown};
use k8s_openapi::Resource;
use kube_client::{Client, ListRequest, resource_of};
use parking_lot::Mutex;

use crate::reach::Reach;
use crate::reflector::Reflector;
use crate::{Cache, Memory};

/// Makes and shares caches. Cloning it shares them too.
#[derive(Clone, Debug)]
pub struct Factory {
    client: Client,
    rng: Arc<dyn Rng>,
    memory: Option<Memory>,
    reach: Arc<Reach>,
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
            memory: None,
            reach: Arc::new(Reach::new()),
            caches: Arc::default(),
        }
    }

    /// Caches that know what they knew before, from some seconds after now until a server answers.
    ///
    /// Must be called within a runtime.
    pub fn with_memory(client: Client, rng: Arc<dyn Rng>, memory: Memory) -> Self {
        let factory = Self {
            memory: Some(memory),
            ..Self::new(client, rng)
        };
        let reach = Arc::clone(&factory.reach);
        env::spawn(async move { reach.lose_patience().await });
        factory
    }

    /// The same caches, and those that begin here call as `client`. What both ask for is read as whoever asked first.
    #[must_use]
    pub fn calling_as(&self, client: Client) -> Self {
        Self {
            client,
            ..self.clone()
        }
    }

    pub fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// Whether a server answered the last call of a cache.
    pub fn hears_a_server(&self) -> bool {
        self.reach.is_answering()
    }

    /// What is remembered of a selection is not needed any more; a cache of it that comes later begins anew.
    pub fn forget(&self, request: &ListRequest) {
        if let Some(memory) = &self.memory {
            memory.forget(request);
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
            reach: Arc::clone(&self.reach),
            memory: self.memory.clone(),
            rng: Arc::clone(&self.rng),
            shutdown,
        };
        if let Some(memory) = &self.memory {
            memory.follow(&cache);
        }
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

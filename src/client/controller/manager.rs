//! Starts controllers, each as its own service account, over caches they share.

use std::sync::Arc;

use env::{Clock, Rng, Shutdown};
use informer::Factory;
use kube_client::Client;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::runner::{Erased, Runner};
use crate::{Controller, EventRecorder, Executor, Queue, Wakes};

/// As which the shared caches list and watch.
const CACHES_USER: &str = "system:kube-controller-manager";
/// As which all controllers book the fields they write, as upstream's binary does.
const FIELD_MANAGER: &str = "kube-controller-manager";

/// Where controllers run.
pub struct Manager {
    client_for: Box<dyn Fn(&str) -> Client + Send + Sync>,
    factory: Factory,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    shutdown: Shutdown,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Manager")
    }
}

impl Manager {
    /// `client_for` makes a client that calls as the user of this name.
    pub fn new(
        client_for: impl Fn(&str) -> Client + Send + Sync + 'static,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        shutdown: Shutdown,
    ) -> Self {
        let factory = Factory::new(client_for(CACHES_USER), Arc::clone(&rng));
        Self {
            client_for: Box::new(client_for),
            factory,
            clock,
            rng,
            shutdown,
        }
    }

    /// The same with the caches of others.
    #[must_use]
    pub fn with_factory(self, factory: Factory) -> Self {
        Self { factory, ..self }
    }

    /// The caches all controllers of this manager share.
    pub fn factory(&self) -> &Factory {
        &self.factory
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub fn rng(&self) -> &Arc<dyn Rng> {
        &self.rng
    }

    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// A client that calls as `kube-system`'s service account `name`.
    pub fn client_as(&self, name: &str) -> Client {
        let client = (self.client_for)(&format!("system:serviceaccount:kube-system:{name}"));
        client.with_field_manager(FIELD_MANAGER)
    }

    /// A client that calls as a user that is no service account.
    pub fn client_as_user(&self, user: &str) -> Client {
        (self.client_for)(user)
    }

    /// Runs a controller until the end is asked for, once its caches are complete.
    pub fn start<C: Controller>(&self, controller: C) {
        let queue = Arc::new(Queue::default());
        let mut wakes = Wakes::default();
        controller.wakes(&mut wakes);
        let caches = wakes.connect(&queue);
        let client = self.client_as(C::NAME);
        let events =
            EventRecorder::new(client.clone(), C::EVENT_SOURCE, "", Arc::clone(&self.clock));
        let runner = Arc::new(Runner {
            name: C::NAME,
            controller: Box::new(Erased(controller)),
            queue,
            executor: Executor::new(client, caches.clone(), events),
            clock: Arc::clone(&self.clock),
            turns: Arc::new(Semaphore::new(C::CONCURRENT_TURNS)),
            kept: Mutex::default(),
        });
        let shutdown = self.shutdown.clone();
        env::spawn(async move {
            for cache in caches {
                tokio::select! {
                    biased;
                    () = shutdown.requested() => return,
                    () = cache.wait_for_sync() => {}
                }
            }
            runner.run(shutdown).await;
        });
    }
}

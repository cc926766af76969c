//! What every request can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use auth::{Authenticator, Authorizer};
use env::{Clock, Rng, Timestamp};
use storage::ObjectStore;
use tokio::sync::Semaphore;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::encodings::Encodings;
use crate::metrics::Metrics;

/// Requests that read, in flight at once.
const READS_IN_FLIGHT_MAX: usize = 400;
/// Requests that write, in flight at once.
const WRITES_IN_FLIGHT_MAX: usize = 200;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: ObjectStore,
    pub(crate) catalog: ArcSwap<Catalog>,
    pub(crate) config: Config,
    pub(crate) reads: Semaphore,
    pub(crate) writes: Semaphore,
    pub(crate) metrics: Metrics,
    pub(crate) encodings: Encodings,
    bootstrapped: AtomicBool,
}

impl State {
    pub(crate) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            store: ObjectStore::new(config.kv.clone(), config.clock.clone()),
            catalog: ArcSwap::from_pointee(Catalog::new([])),
            reads: Semaphore::new(READS_IN_FLIGHT_MAX),
            writes: Semaphore::new(WRITES_IN_FLIGHT_MAX),
            metrics: Metrics::default(),
            encodings: Encodings::default(),
            bootstrapped: AtomicBool::new(false),
            config,
        })
    }

    /// Whether everything that every cluster has is there.
    pub(crate) fn is_bootstrapped(&self) -> bool {
        self.bootstrapped.load(Ordering::Acquire)
    }

    pub(crate) fn set_bootstrapped(&self) {
        self.bootstrapped.store(true, Ordering::Release);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.config.clock.now()
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.config.clock
    }

    pub(crate) fn rng(&self) -> &Arc<dyn Rng> {
        &self.config.rng
    }

    pub(crate) fn authenticator(&self) -> &dyn Authenticator {
        &*self.config.authenticator
    }

    pub(crate) fn authorizer(&self) -> &dyn Authorizer {
        &*self.config.authorizer
    }
}

//! What every request can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use apimachinery::{ApiError, Object, ObjectKey};
use arc_swap::ArcSwap;
use auth::{Authenticator, Authorizer};
use env::{Clock, Rng, Timestamp};
use storage::{ListOptions, ObjectStore};
use tokio::sync::Semaphore;

use crate::catalog::{Catalog, Served};
use crate::config::Config;
use crate::encodings::Encodings;
use crate::metrics::Metrics;
use crate::side_paths;

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
    pub(crate) side_requests: Semaphore,
    pub(crate) metrics: Metrics,
    pub(crate) encodings: Encodings,
    bootstrapped: AtomicBool,
}

impl State {
    /// Host and port that clients reach the server at.
    pub(crate) fn advertised_address(&self) -> String {
        self.config.advertised.borrow().address.to_string()
    }

    pub(crate) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            store: ObjectStore::new(config.kv.clone(), config.clock.clone()),
            catalog: ArcSwap::from_pointee(Catalog::new([])),
            reads: Semaphore::new(READS_IN_FLIGHT_MAX),
            writes: Semaphore::new(WRITES_IN_FLIGHT_MAX),
            side_requests: Semaphore::new(side_paths::REQUESTS_MAX),
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

    /// One object of a built-in kind, in its stored version.
    pub(crate) async fn read(
        &self,
        group: &str,
        plural: &str,
        key: &ObjectKey,
    ) -> Result<Object, ApiError> {
        let served = self.built_in(group, plural)?;
        let object = self.store.get(&served.collection, key).await?;
        object.to_object().map_err(ApiError::internal)
    }

    /// The objects of a built-in kind in one namespace; empty: in all of them.
    pub(crate) async fn list(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
    ) -> Result<Vec<Object>, ApiError> {
        let served = self.built_in(group, plural)?;
        let namespace = Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty());
        let options = ListOptions {
            namespace,
            ..ListOptions::default()
        };
        let list = self.store.list(&served.collection, &options).await?;
        list.items
            .iter()
            .map(|item| item.to_object().map_err(ApiError::internal))
            .collect()
    }

    fn built_in(&self, group: &str, plural: &str) -> Result<Arc<Served>, ApiError> {
        let catalog = self.catalog.load();
        let found = catalog.all().find(|served| {
            served.description.kind.group == group
                && served.description.plural == plural
                && served.description.is_stored_version()
        });
        found
            .cloned()
            .ok_or_else(|| ApiError::internal(format!("{plural} are not served")))
    }
}

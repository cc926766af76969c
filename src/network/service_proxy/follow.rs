//! From the API's objects to the kernel, for as long as the node lives. What is desired is kept as small facts; an object is
//! decoded once for each of its changes and dropped.

use crate::facts::{
    Desired, HostPort, NodeFacts, SERVICE_NAME_LABEL, ServiceFacts, ServiceName, SliceFacts,
};
use crate::proxy::ServiceProxy;
use apimachinery::StoredObject;
use env::{Clock, Shutdown};
use informer::{Change, Factory, Subscription};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::{Kind, ListRequest, resource_of};
use linux::netlink::nf_tables::Drift;
use std::sync::Arc;
use std::time::Duration;

/// After a change the proxy rests so many times as long as the change took, so that a storm of changes costs little.
const REST_FACTOR: u32 = 5;
const REST_MIN: Duration = Duration::from_millis(5);
const REST_MAX: Duration = Duration::from_secs(1);
/// After a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Keeps the kernel as the API wants it until the end is asked for. The table stays when this returns.
///
/// No Service is changed before all objects have been read once: until then a table of an earlier process goes on working.
pub async fn run(
    mut proxy: ServiceProxy,
    node: NodeFacts,
    factory: &Factory,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) {
    if let Err(error) = proxy.prepare(&node) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "pods do not reach the world yet"
        );
    }
    let sources = Sources::open(factory, &node.name);
    let mut keeper = Keeper {
        state: Some((proxy, Desired::default())),
        node,
        clock,
        drift: None,
    };
    tokio::select! {
        biased;
        () = shutdown.requested() => return,
        () = sources.wait_for_sync() => {}
    }
    let mut retry = RETRY_FIRST;
    loop {
        sources.drain(|source, change| keeper.take(source, &change));
        let applied = keeper.apply().await;
        let rest = applied.unwrap_or(retry);
        retry = if applied.is_some() {
            RETRY_FIRST
        } else {
            (retry * 2).min(RETRY_MAX)
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = env::sleep(rest) => {}
        }
        if applied.is_none() {
            continue;
        }
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            (source, change) = sources.next() => keeper.take(source, &change),
            () = keeper.disturbed() => {}
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Services,
    Slices,
    Pods,
}

struct Sources {
    services: Subscription,
    slices: Subscription,
    /// Pods of this node.
    pods: Subscription,
}

impl Sources {
    fn open(factory: &Factory, node_name: &str) -> Self {
        let pods = ListRequest {
            resource: resource_of::<Pod>(),
            namespace: None,
            label_selector: String::new(),
            field_selector: format!("spec.nodeName={node_name}"),
        };
        Self {
            services: factory.all::<Service>().subscribe(),
            slices: factory.all::<EndpointSlice>().subscribe(),
            pods: factory.cache(pods).subscribe(),
        }
    }

    async fn wait_for_sync(&self) {
        for source in [&self.services, &self.slices, &self.pods] {
            source.cache().wait_for_sync().await;
        }
    }

    async fn next(&self) -> (Source, Change) {
        tokio::select! {
            biased;
            change = self.services.next() => (Source::Services, change),
            change = self.slices.next() => (Source::Slices, change),
            change = self.pods.next() => (Source::Pods, change),
        }
    }

    fn drain(&self, mut take: impl FnMut(Source, Change)) {
        for (source, changes) in [
            (Source::Services, &self.services),
            (Source::Slices, &self.slices),
            (Source::Pods, &self.pods),
        ] {
            while let Some(change) = changes.try_next() {
                take(source, change);
            }
        }
    }
}

struct Keeper {
    /// Away while the kernel is being changed on another thread; lost if that thread panicked.
    state: Option<(ServiceProxy, Desired)>,
    node: NodeFacts,
    clock: Arc<dyn Clock>,
    drift: Option<Drift>,
}

impl Keeper {
    fn take(&mut self, source: Source, change: &Change) {
        let Some((_, desired)) = &mut self.state else {
            return;
        };
        match source {
            Source::Services => take_service(desired, change),
            Source::Slices => take_slice(desired, change, &self.node),
            Source::Pods => take_pod(desired, change),
        }
    }

    /// Returns how long to rest, or nothing after a failure.
    async fn apply(&mut self) -> Option<Duration> {
        let (mut proxy, desired) = self
            .state
            .take()
            .expect("it is put back, or this task has ended");
        let node = self.node.clone();
        let start = self.clock.monotonic();
        let work = env::spawn_blocking(move || {
            let applied = proxy.apply(&desired, &node);
            (proxy, desired, applied)
        });
        let (mut proxy, desired, applied) = match work.await {
            Ok(done) => done,
            // The table stands as it was; the one who runs this task starts it again.
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending, and this task with it.
                Err(_cancelled) => std::future::pending().await,
            },
        };
        let is_missed = proxy.table().is_shared() && self.drift.is_none() && self.watch(&mut proxy);
        self.state = Some((proxy, desired));
        match applied {
            Ok(_) if is_missed => None,
            Ok(applied) => {
                tracing::debug!(?applied, "Services applied");
                let took = self.clock.monotonic().saturating_sub(start);
                Some((took * REST_FACTOR).clamp(REST_MIN, REST_MAX))
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "Services were not applied"
                );
                None
            }
        }
    }

    /// Hears of changes by others from now on. Tells whether one came before, so that the table has to be made anew.
    fn watch(&mut self, proxy: &mut ServiceProxy) -> bool {
        let drift = Drift::watch(proxy.table());
        self.drift = drift
            .inspect_err(
                |error| tracing::warn!(%error, "changes of the table by others go unnoticed"),
            )
            .ok();
        let is_intact = proxy.table().is_intact().unwrap_or(false);
        if !is_intact {
            proxy.table().distrust();
        }
        !is_intact
    }

    /// Returns once somebody else changed the table, which is then made anew by the next `apply`.
    async fn disturbed(&mut self) {
        let Some(drift) = &mut self.drift else {
            return std::future::pending().await;
        };
        let Some((proxy, _)) = &mut self.state else {
            return std::future::pending().await;
        };
        drift.disturbed(proxy.table()).await;
        proxy.table().distrust();
    }
}

fn take_service(desired: &mut Desired, change: &Change) {
    let key = change.key();
    let name = ServiceName::new(&key.namespace, &key.name);
    match change
        .new
        .as_ref()
        .and_then(decode::<Service>)
        .and_then(|service| ServiceFacts::of(&service))
    {
        Some(facts) => drop(desired.services.insert(name, facts)),
        None => drop(desired.services.remove(&name)),
    }
}

fn take_slice(desired: &mut Desired, change: &Change, node: &NodeFacts) {
    let key = change.key();
    if let Some(owner) = change
        .old
        .as_ref()
        .and_then(|old| old.index.label(SERVICE_NAME_LABEL))
    {
        desired
            .slices
            .remove(&(ServiceName::new(&key.namespace, owner), key.name.clone()));
    }
    let facts = change.new.as_ref().and_then(decode::<EndpointSlice>);
    if let Some((owner, facts)) = facts.and_then(|slice| SliceFacts::of(&slice, node)) {
        desired.slices.insert((owner, key.name.clone()), facts);
    }
}

fn take_pod(desired: &mut Desired, change: &Change) {
    if let Some(old) = &change.old {
        desired.host_ports.remove(&old.index.uid);
    }
    if let Some(new) = &change.new {
        let ports = decode::<Pod>(new)
            .map(|pod| HostPort::of(&pod))
            .unwrap_or_default();
        if !ports.is_empty() {
            desired.host_ports.insert(new.index.uid.clone(), ports);
        }
    }
}

fn decode<K: Kind>(object: &StoredObject) -> Option<K> {
    object
        .decode()
        .inspect_err(
            |error| tracing::warn!(%error, key = %object.key(), "an object cannot be read"),
        )
        .ok()
}

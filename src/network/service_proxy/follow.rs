//! From the API's objects to the kernel, for as long as the node lives. What is desired is kept as small facts; an object is
//! decoded once for each of its changes and dropped.

use crate::error::Error;
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
use linux::netlink::nf_tables::{Applied, KeptTable};
use std::sync::Arc;
use table_keeper::{Keeper, Outcome, Rules};

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
    let services = Services {
        proxy,
        desired: Desired::default(),
        node,
    };
    let mut keeper = Keeper::new(services, clock);
    tokio::select! {
        biased;
        () = shutdown.requested() => {}
        () = keep(&mut keeper, &sources) => {}
    }
}

async fn keep(keeper: &mut Keeper<Services>, sources: &Sources) {
    sources.wait_for_sync().await;
    loop {
        sources.drain(|source, change| keeper.rules().take(source, &change));
        let outcome = keeper.apply().await;
        keeper.rest().await;
        if outcome == Outcome::AsWanted {
            tokio::select! {
                biased;
                (source, change) = sources.next() => keeper.rules().take(source, &change),
                () = keeper.disturbed() => {}
            }
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

/// The proxy, and what the API wants of it.
struct Services {
    proxy: ServiceProxy,
    desired: Desired,
    node: NodeFacts,
}

impl Services {
    fn take(&mut self, source: Source, change: &Change) {
        match source {
            Source::Services => take_service(&mut self.desired, change),
            Source::Slices => take_slice(&mut self.desired, change, &self.node),
            Source::Pods => take_pod(&mut self.desired, change),
        }
    }
}

impl Rules for Services {
    const WHAT: &'static str = "Services";
    type Error = Error;

    fn table(&mut self) -> &mut KeptTable {
        self.proxy.table()
    }

    fn apply(&mut self) -> Result<Applied, Error> {
        self.proxy.apply(&self.desired, &self.node)
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

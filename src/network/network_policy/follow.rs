//! From the API's objects to the kernel, for as long as the node lives. What is desired is kept as small facts; pods and
//! namespaces are read only while there is a policy.

use crate::error::Error;
use crate::facts::{Desired, DnsPlace, PodFacts, PolicyFacts};
use crate::node_pods::{Known, NodePods};
use crate::peers::DNS_NAMESPACE;
use crate::policy_table::PolicyTable;
use apimachinery::StoredObject;
use env::{Clock, Shutdown};
use informer::{Change, Factory, Subscription};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube_client::{Kind, ListRequest, resource_of};
use linux::netlink::nf_tables::{Applied, KeptTable};
use std::collections::BTreeMap;
use std::sync::Arc;
use table_keeper::{Keeper, Outcome, Rules};
use tokio::sync::watch;

/// Which slices say where the cluster's DNS listens.
const DNS_SELECTOR: &str = "kubernetes.io/service-name=kube-dns";
/// Keeps the kernel as policies want it until the end is asked for. The rules stay when this returns.
///
/// Nothing is changed before all policies have been read once and the pods of an earlier process are known.
pub async fn run(
    table: PolicyTable,
    node_pods: NodePods,
    factory: &Factory,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) {
    let policies = Policies {
        table,
        desired: Desired::default(),
    };
    let mut follower = Follower {
        keeper: Keeper::new(policies, clock),
        sources: Sources::open(factory),
        connected: node_pods.watch(),
        node_pods,
    };
    tokio::select! {
        biased;
        () = shutdown.requested() => {}
        () = follower.follow(factory) => {}
    }
}

/// The table, and what policies want of it.
struct Policies {
    table: PolicyTable,
    desired: Desired,
}

impl Rules for Policies {
    const WHAT: &'static str = "Network policies";
    type Error = Error;

    fn table(&mut self) -> &mut KeptTable {
        self.table.table()
    }

    fn apply(&mut self) -> Result<Applied, Error> {
        self.table.apply(&self.desired)
    }
}

struct Follower {
    keeper: Keeper<Policies>,
    sources: Sources,
    connected: watch::Receiver<Known>,
    node_pods: NodePods,
}

impl Follower {
    async fn follow(&mut self, factory: &Factory) {
        self.sources.policies.cache().wait_for_sync().await;
        // The sender lives as long as `node_pods`.
        let complete = self.connected.wait_for(|known| known.is_complete).await;
        drop(complete);
        loop {
            self.take_changes(factory).await;
            let known = self.connected.borrow_and_update().clone();
            self.keeper.rules().desired.connected = known.pods;
            let outcome = self.keeper.apply().await;
            if outcome == Outcome::AsWanted {
                self.node_pods.is_in_force(known.version);
            }
            self.keeper.rest().await;
            if outcome == Outcome::AsWanted {
                self.wait_for_change().await;
            }
        }
    }

    /// Takes all that is waiting; opens the other sources when the first policy comes and lets them go with the last.
    async fn take_changes(&mut self, factory: &Factory) {
        let desired = &mut self.keeper.rules().desired;
        while let Some(change) = self.sources.policies.try_next() {
            take_policy(desired, &change);
        }
        if desired.policies.is_empty() {
            self.sources.others = None;
            desired.namespaces.clear();
            desired.pods.clear();
            desired.dns.clear();
        } else {
            let others = self
                .sources
                .others
                .get_or_insert_with(|| Others::open(factory));
            others.wait_for_sync().await;
            others.drain(desired);
        }
    }

    async fn wait_for_change(&mut self) {
        loop {
            let is_relevant = tokio::select! {
                biased;
                _changed = self.connected.changed() => true,
                change = self.sources.policies.next() => {
                    take_policy(&mut self.keeper.rules().desired, &change)
                }
                (source, change) = next_of(self.sources.others.as_ref()) => {
                    take_other(&mut self.keeper.rules().desired, source, &change)
                }
                () = self.keeper.disturbed() => true,
            };
            if is_relevant {
                return;
            }
        }
    }
}

struct Sources {
    policies: Subscription,
    others: Option<Others>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Namespaces,
    Pods,
    Dns,
}

/// What policies speak of.
struct Others {
    namespaces: Subscription,
    pods: Subscription,
    dns: Subscription,
}

impl Sources {
    fn open(factory: &Factory) -> Self {
        Self {
            policies: factory.all::<NetworkPolicy>().subscribe(),
            others: None,
        }
    }
}

impl Others {
    fn open(factory: &Factory) -> Self {
        let dns = ListRequest {
            resource: resource_of::<EndpointSlice>(),
            namespace: Some(DNS_NAMESPACE.to_owned()),
            label_selector: DNS_SELECTOR.to_owned(),
            field_selector: String::new(),
        };
        Self {
            namespaces: factory.all::<Namespace>().subscribe(),
            pods: factory.all::<Pod>().subscribe(),
            dns: factory.cache(dns).subscribe(),
        }
    }

    async fn wait_for_sync(&self) {
        for (_, source) in self.each() {
            source.cache().wait_for_sync().await;
        }
    }

    fn each(&self) -> [(Other, &Subscription); 3] {
        [
            (Other::Namespaces, &self.namespaces),
            (Other::Pods, &self.pods),
            (Other::Dns, &self.dns),
        ]
    }

    fn drain(&self, desired: &mut Desired) {
        for (source, changes) in self.each() {
            while let Some(change) = changes.try_next() {
                take_other(desired, source, &change);
            }
        }
    }
}

async fn next_of(others: Option<&Others>) -> (Other, Change) {
    let Some(others) = others else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        change = others.namespaces.next() => (Other::Namespaces, change),
        change = others.pods.next() => (Other::Pods, change),
        change = others.dns.next() => (Other::Dns, change),
    }
}

/// Takes one change; tells whether it matters.
fn take_other(desired: &mut Desired, source: Other, change: &Change) -> bool {
    match source {
        Other::Namespaces => take_namespace(desired, change),
        Other::Pods => take(&mut desired.pods, change, |pod| PodFacts::of(&pod)),
        Other::Dns => take(&mut desired.dns, change, |slice| Some(DnsPlace::of(&slice))),
    }
}

fn take_policy(desired: &mut Desired, change: &Change) -> bool {
    take(&mut desired.policies, change, |policy| {
        Some(PolicyFacts::of(&policy))
    })
}

fn take_namespace(desired: &mut Desired, change: &Change) -> bool {
    let labels = change.new.as_ref().map(|namespace| {
        let labels = namespace.index.labels.iter();
        labels
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    });
    put(&mut desired.namespaces, change.key().name.clone(), labels)
}

/// Keeps the facts of an object as it is now; tells whether they are others than before.
fn take<K: Kind, F: PartialEq>(
    known: &mut BTreeMap<apimachinery::ObjectKey, F>,
    change: &Change,
    facts: impl FnOnce(K) -> Option<F>,
) -> bool {
    let facts = change.new.as_ref().and_then(decode::<K>).and_then(facts);
    put(known, change.key().clone(), facts)
}

fn put<K: Ord, F: PartialEq>(known: &mut BTreeMap<K, F>, key: K, facts: Option<F>) -> bool {
    if known.get(&key) == facts.as_ref() {
        return false;
    }
    match facts {
        Some(facts) => drop(known.insert(key, facts)),
        None => drop(known.remove(&key)),
    }
    true
}

fn decode<K: Kind>(object: &StoredObject) -> Option<K> {
    object
        .decode()
        .inspect_err(
            |error| tracing::warn!(%error, key = %object.key(), "an object cannot be read"),
        )
        .ok()
}

//! From the API's objects to the kernel, for as long as the node lives. What is desired is kept as small facts; pods and
//! namespaces are read only while there is a policy.

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
use linux::netlink::nf_tables::Drift;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Which slices say where the cluster's DNS listens.
const DNS_SELECTOR: &str = "kubernetes.io/service-name=kube-dns";
/// After a change the node rests so many times as long as the change took, so that a storm of changes costs little.
const REST_FACTOR: u32 = 5;
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_secs(1);
/// After a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

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
    let mut keeper = Keeper {
        state: Some((table, Desired::default())),
        sources: Sources::open(factory),
        connected: node_pods.watch(),
        node_pods,
        clock,
        drift: None,
    };
    tokio::select! {
        biased;
        () = shutdown.requested() => {}
        () = keeper.keep(factory) => {}
    }
}

struct Keeper {
    /// Away while the kernel is being changed on another thread; lost if that thread panicked.
    state: Option<(PolicyTable, Desired)>,
    sources: Sources,
    connected: watch::Receiver<Known>,
    node_pods: NodePods,
    clock: Arc<dyn Clock>,
    drift: Option<Drift>,
}

impl Keeper {
    async fn keep(&mut self, factory: &Factory) {
        self.sources.policies.cache().wait_for_sync().await;
        // The sender lives as long as `node_pods`.
        let complete = self.connected.wait_for(|known| known.is_complete).await;
        drop(complete);
        let mut retry = RETRY_FIRST;
        loop {
            self.take_changes(factory).await;
            if let Some(rest) = self.apply().await {
                retry = RETRY_FIRST;
                env::sleep(rest).await;
                self.wait_for_change().await;
            } else {
                env::sleep(retry).await;
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }

    /// Takes all that is waiting; opens the other sources when the first policy comes and lets them go with the last.
    async fn take_changes(&mut self, factory: &Factory) {
        let Some((_, desired)) = &mut self.state else {
            return;
        };
        while let Some(change) = self.sources.policies.try_next() {
            take(&mut desired.policies, &change, |policy| {
                Some(PolicyFacts::of(&policy))
            });
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

    /// Returns how long to rest, or nothing after a failure.
    async fn apply(&mut self) -> Option<Duration> {
        let (mut table, mut desired) = self
            .state
            .take()
            .expect("it is put back, or this task has ended");
        let known = self.connected.borrow_and_update().clone();
        desired.connected = known.pods;
        let start = self.clock.monotonic();
        let work = env::spawn_blocking(move || {
            let applied = table.apply(&desired);
            (table, desired, applied)
        });
        let (mut table, desired, applied) = match work.await {
            Ok(done) => done,
            // The rules stand as they were; the one who runs this task starts it again.
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending, and this task with it.
                Err(_cancelled) => std::future::pending().await,
            },
        };
        let is_missed = table.table().is_shared() && self.drift.is_none() && self.watch(&mut table);
        self.state = Some((table, desired));
        match applied {
            Ok(_) if is_missed => None,
            Ok(applied) => {
                tracing::debug!(?applied, "network policies applied");
                self.node_pods.is_in_force(known.version);
                let took = self.clock.monotonic().saturating_sub(start);
                Some((took * REST_FACTOR).clamp(REST_MIN, REST_MAX))
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "network policies were not applied");
                None
            }
        }
    }

    /// Hears of changes by others from now on. Tells whether one came before, so that the rules have to be made anew.
    fn watch(&mut self, table: &mut PolicyTable) -> bool {
        self.drift = Drift::watch(table.table())
            .inspect_err(
                |error| tracing::warn!(%error, "changes of the rules by others go unnoticed"),
            )
            .ok();
        let is_intact = table.table().is_intact().unwrap_or(false);
        if !is_intact {
            table.table().distrust();
        }
        !is_intact
    }

    async fn wait_for_change(&mut self) {
        let Some((table, desired)) = &mut self.state else {
            return;
        };
        loop {
            let is_relevant = tokio::select! {
                biased;
                _changed = self.connected.changed() => true,
                change = self.sources.policies.next() => {
                    take(&mut desired.policies, &change, |policy| Some(PolicyFacts::of(&policy)))
                }
                is_relevant = next_of(self.sources.others.as_ref(), desired) => is_relevant,
                () = disturbed(self.drift.as_mut(), table) => true,
            };
            if is_relevant {
                return;
            }
        }
    }
}

/// Returns once somebody else changed the rules, which are then made anew by the next `apply`.
async fn disturbed(drift: Option<&mut Drift>, table: &mut PolicyTable) {
    let Some(drift) = drift else {
        return std::future::pending().await;
    };
    drift.disturbed(table.table()).await;
    table.table().distrust();
}

struct Sources {
    policies: Subscription,
    others: Option<Others>,
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
        for source in [&self.namespaces, &self.pods, &self.dns] {
            source.cache().wait_for_sync().await;
        }
    }

    fn drain(&self, desired: &mut Desired) {
        while let Some(change) = self.namespaces.try_next() {
            take_namespace(desired, &change);
        }
        while let Some(change) = self.pods.try_next() {
            take(&mut desired.pods, &change, |pod| PodFacts::of(&pod));
        }
        while let Some(change) = self.dns.try_next() {
            take(&mut desired.dns, &change, |slice| {
                Some(DnsPlace::of(&slice))
            });
        }
    }
}

/// Takes one change; tells whether it matters.
async fn next_of(others: Option<&Others>, desired: &mut Desired) -> bool {
    let Some(others) = others else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        change = others.namespaces.next() => take_namespace(desired, &change),
        change = others.pods.next() => take(&mut desired.pods, &change, |pod| PodFacts::of(&pod)),
        change = others.dns.next() => {
            take(&mut desired.dns, &change, |slice| Some(DnsPlace::of(&slice)))
        }
    }
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

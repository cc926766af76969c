//! Gives Services of type `LoadBalancer` the addresses of nodes, which let their ports through to the endpoints.
//!
//! As k3s' ServiceLB, without pods of its own: the service proxy of every node serves what stands in
//! `status.loadBalancer`. A Service with a class of its own is somebody else's.

mod allocation;
mod facts;

use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::{ObjectKey, StoredObject};
use controller::{Action, Controller, Event, EventType, Past, Plan, Wakes, regarding};
use env::Timestamp;
use informer::{Cache, Change, Factory, Index};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use crate::slices::{OF_SERVICE, SERVICE_NAME};
use allocation::allocate;
use facts::{BalancedService, BalancingNode, Reserved, nodes_with_endpoints};

/// The Services that this controller is for.
const BALANCED: Index = Index {
    name: "balanced",
    values: |service| {
        let found = BalancedService::of(service);
        found.map(|_| YES.to_owned()).into_iter().collect()
    },
};
const YES: &str = "yes";

/// The Service whose endpoints are the API servers.
fn api_servers() -> ObjectKey {
    ObjectKey::namespaced("default", "kubernetes")
}

pub(crate) struct ServiceLoadBalancer {
    services: Arc<Cache>,
    nodes: Arc<Cache>,
    slices: Arc<Cache>,
}

pub(crate) struct View {
    service: StoredObject,
    standing: Vec<LoadBalancerIngress>,
    /// What of the ports is others', if it was not announced yet.
    news: Option<String>,
    wanted: Vec<LoadBalancerIngress>,
}

impl ServiceLoadBalancer {
    pub(crate) fn new(factory: &Factory) -> Self {
        let (services, slices) = (factory.all::<Service>(), factory.all::<EndpointSlice>());
        services.add_index(BALANCED);
        slices.add_index(OF_SERVICE);
        Self {
            services,
            nodes: factory.all::<Node>(),
            slices,
        }
    }

    fn slices_of(&self, key: &ObjectKey) -> Vec<StoredObject> {
        self.slices.find(&OF_SERVICE, &key.to_string())
    }

    fn all_balanced(&self) -> Vec<BalancedService> {
        let services = self.services.find(&BALANCED, YES);
        let balanced = services.iter().filter_map(BalancedService::of);
        balanced
            .map(|mut service| {
                if service.only_where_endpoints_are {
                    let nodes = nodes_with_endpoints(&self.slices_of(&service.key));
                    service.nodes_with_endpoints = nodes;
                }
                service
            })
            .collect()
    }
}

impl Controller for ServiceLoadBalancer {
    type View = View;
    /// The conflict that was announced last.
    type Memory = String;
    const NAME: &'static str = "service-controller";
    const EVENT_SOURCE: &'static str = "service-lb";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.services);
        let services = Arc::clone(&self.services);
        // A Service that comes, goes or changes can give ports to all others, or take them.
        on.mapped(&self.services, move |change| {
            if is_same(change, BalancedService::of) {
                return Vec::new();
            }
            balanced_keys(&services)
        });
        let services = Arc::clone(&self.services);
        on.mapped(&self.nodes, move |change| {
            if is_same(change, BalancingNode::of) {
                return Vec::new();
            }
            balanced_keys(&services)
        });
        let services = Arc::clone(&self.services);
        on.mapped(&self.slices, move |change| {
            let name = change.latest().index.label(SERVICE_NAME);
            let Some(name) = name else {
                return Vec::new();
            };
            let owner = ObjectKey::namespaced(change.key().namespace.clone(), name);
            let service = services.get(&owner);
            let service = service.and_then(|service| BalancedService::of(&service));
            let is_local = service.is_some_and(|service| service.only_where_endpoints_are);
            if is_local || owner == api_servers() {
                // Where one Service is not, the next one may be.
                return balanced_keys(&services);
            }
            Vec::new()
        });
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, String>) -> Option<View> {
        let stored = self.services.get(key)?;
        // Most Services are not, and there may be thousands of them.
        BalancedService::of(&stored)?;
        let nodes = self.nodes.list();
        let nodes: Vec<BalancingNode> = nodes.iter().filter_map(BalancingNode::of).collect();
        let reserved = Reserved::of(&nodes, &self.slices_of(&api_servers()));
        // Nothing for a Service that is not balanced here.
        let allocation = allocate(&self.all_balanced(), &nodes, &reserved).remove(key)?;
        let conflict = allocation.conflict.map(|conflict| conflict.to_string());
        let conflict = conflict.unwrap_or_default();
        let is_news = !conflict.is_empty() && *past.memory != conflict;
        past.memory.clone_from(&conflict);
        Some(View {
            standing: standing(&stored),
            service: stored,
            news: is_news.then_some(conflict),
            wanted: allocation.addresses.into_iter().map(ingress).collect(),
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        if view.standing != view.wanted {
            let ingress = if view.wanted.is_empty() {
                json!(null)
            } else {
                json!(view.wanted)
            };
            let patch = json!({
                "metadata": {"uid": view.service.index.uid}, "status": {"loadBalancer": {"ingress": ingress}},
            });
            plan.push(Action::merge_status::<Service>(
                view.service.key().clone(),
                patch,
            ));
        }
        if let Some(message) = &view.news {
            plan.push(Action::Emit(Event {
                regarding: regarding::<Service>(&view.service),
                event_type: EventType::Warning,
                reason: "PortConflict".to_owned(),
                message: message.clone(),
            }));
        }
        plan
    }
}

/// Whether a change leaves the facts that count as they were.
fn is_same<F: PartialEq>(change: &Change, facts: impl Fn(&StoredObject) -> Option<F>) -> bool {
    change.old.as_ref().and_then(&facts) == change.new.as_ref().and_then(&facts)
}

fn balanced_keys(services: &Cache) -> Vec<ObjectKey> {
    let services = services.find(&BALANCED, YES).into_iter();
    services.map(|service| service.key().clone()).collect()
}

/// The addresses that stand in the status; empty ones if it cannot be read.
fn standing(stored: &StoredObject) -> Vec<LoadBalancerIngress> {
    let service: Service = stored.decode().unwrap_or_default();
    let balancer = service.status.and_then(|status| status.load_balancer);
    balancer.and_then(|known| known.ingress).unwrap_or_default()
}

/// As k3s: packets for the address come to the node unchanged.
fn ingress(address: IpAddr) -> LoadBalancerIngress {
    LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    }
}

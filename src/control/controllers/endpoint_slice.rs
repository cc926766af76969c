//! Publishes the pods a service selects as endpoint slices.

mod mirroring;

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::ObjectKey;
use controller::{Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::ownership::Owner;
use crate::services::{EndpointPod, Selecting, selected_pods, services_of_pod};
use crate::slices::{Common, Group, MANAGED_BY, OF_SERVICE, SERVICE_NAME, Standing, reconcile};
pub(crate) use mirroring::Mirroring;

const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
const SLICE_ENDPOINTS_MAX: usize = 100;

pub(crate) struct EndpointSlices {
    services: Arc<Cache>,
    pods: Arc<Cache>,
    nodes: Arc<Cache>,
    slices: Arc<Cache>,
}

pub(crate) struct View {
    owner: Owner,
    labels: BTreeMap<String, String>,
    service: Selecting,
    pods: Vec<EndpointPod>,
    /// The zones of the nodes the pods are on.
    zones: BTreeMap<String, String>,
    standing: Vec<Standing>,
}

impl EndpointSlices {
    pub(crate) fn new(factory: &Factory) -> Self {
        let slices = factory.all::<EndpointSlice>();
        slices.add_index(OF_SERVICE);
        Self {
            services: factory.all::<Service>(),
            pods: factory.all::<Pod>(),
            nodes: factory.all::<Node>(),
            slices,
        }
    }

    fn zones(&self, pods: &[EndpointPod]) -> BTreeMap<String, String> {
        let zone = |pod: &EndpointPod| {
            let node = self.nodes.get(&ObjectKey::cluster(pod.node_name.clone()))?;
            Some((pod.node_name.clone(), node.index.label(ZONE)?.to_owned()))
        };
        pods.iter().filter_map(zone).collect()
    }
}

impl Controller for EndpointSlices {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "endpointslice-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.services);
        let services = Arc::clone(&self.services);
        on.mapped(&self.pods, move |change| services_of_pod(&services, change));
        on.mapped(&self.slices, |change| {
            let slice = change.latest();
            let is_ours = slice.index.label(MANAGED_BY) == Some(MANAGER);
            let service = slice.index.label(SERVICE_NAME).filter(|_| is_ours);
            service
                .map(|name| ObjectKey::namespaced(slice.key().namespace.clone(), name))
                .into_iter()
                .collect()
        });
        let services = Arc::clone(&self.services);
        on.mapped(&self.nodes, move |change| {
            let zone = |node: &Option<apimachinery::StoredObject>| {
                node.as_ref()
                    .and_then(|node| node.index.label(ZONE).map(str::to_owned))
            };
            if zone(&change.old) == zone(&change.new) {
                return Vec::new();
            }
            services
                .list()
                .into_iter()
                .map(|service| service.key().clone())
                .collect()
        });
    }

    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        let stored = self
            .services
            .get(key)
            .filter(|service| !service.index.is_being_deleted)?;
        let service = Selecting::of(&stored)?;
        let pods = selected_pods(&self.pods, &key.namespace, &service.selector);
        Some(View {
            owner: Owner::of::<Service>(&stored.index),
            labels: labels_of(&stored.index.labels),
            zones: self.zones(&pods),
            standing: standing(&self.slices, key, MANAGER),
            service,
            pods,
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        Plan::of(reconcile(&common(view), &view.standing, &groups(view)))
    }
}

/// The slices of a service that `manager` keeps.
fn standing(slices: &Cache, service: &ObjectKey, manager: &str) -> Vec<Standing> {
    let slices = slices.find(&OF_SERVICE, &service.to_string()).into_iter();
    let ours = slices.filter(|slice| {
        slice.index.label(MANAGED_BY) == Some(manager) && !slice.index.is_being_deleted
    });
    ours.filter_map(|slice| Standing::of(&slice)).collect()
}

fn labels_of(labels: &[(Box<str>, Box<str>)]) -> BTreeMap<String, String> {
    labels
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn common(view: &View) -> Common {
    let mut labels = view.labels.clone();
    for ours in [HEADLESS, SERVICE_NAME, MANAGED_BY] {
        labels.remove(ours);
    }
    if view.service.is_headless {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), view.owner.key.name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    Common {
        namespace: view.owner.key.namespace.clone(),
        generate_name: format!("{}-", view.owner.key.name),
        labels,
        annotations: BTreeMap::new(),
        owner: view.owner.reference(),
        endpoints_max: SLICE_ENDPOINTS_MAX,
    }
}

/// Endpoints by address family and by the ports they have, which named ports may make differ from pod to pod.
fn groups(view: &View) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for family in &view.service.families {
        for pod in view.pods.iter().filter(|pod| !pod.is_finished) {
            let Some(address) = pod.address(family) else {
                continue;
            };
            let ports = ports(view, pod);
            let endpoint = endpoint(view, pod, address);
            let known = groups
                .iter_mut()
                .find(|group| group.address_type == *family && group.ports == ports);
            match known {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group {
                    address_type: family,
                    ports,
                    endpoints: vec![endpoint],
                }),
            }
        }
        if !groups.iter().any(|group| group.address_type == *family) {
            groups.push(Group {
                address_type: family,
                ports: Vec::new(),
                endpoints: Vec::new(),
            });
        }
    }
    groups
}

fn ports(view: &View, pod: &EndpointPod) -> Vec<Value> {
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let number = pod.target_port(port)?;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let mut value = json!({
            "name": port.name.as_deref().unwrap_or_default(), "port": number, "protocol": protocol,
        });
        if let Some(app_protocol) = &port.app_protocol {
            value["appProtocol"] = app_protocol.clone().into();
        }
        Some(value)
    };
    view.service.ports.iter().filter_map(port).collect()
}

fn endpoint(view: &View, pod: &EndpointPod, address: &str) -> Value {
    let is_ready = view.service.publishes_not_ready || (pod.is_ready && !pod.is_terminating);
    let mut endpoint = json!({
        "addresses": [address],
        "conditions": {"ready": is_ready, "serving": pod.is_ready, "terminating": pod.is_terminating},
        "targetRef": {"kind": "Pod", "namespace": pod.key.namespace, "name": pod.key.name, "uid": pod.uid},
    });
    if !pod.node_name.is_empty() {
        endpoint["nodeName"] = pod.node_name.clone().into();
    }
    let zone = view.zones.get(&pod.node_name);
    if let Some(zone) = zone {
        endpoint["zone"] = zone.clone().into();
    }
    if let Some(hostname) = pod.hostname_in(&view.owner.key) {
        endpoint["hostname"] = hostname.into();
    }
    let distribution = view.service.traffic_distribution.as_str();
    let stays_in_zone = matches!(
        distribution,
        "PreferClose" | "PreferSameZone" | "PreferSameNode"
    );
    if let Some(zone) = zone.filter(|_| stays_in_zone && is_ready) {
        endpoint["hints"]["forZones"] = json!([{"name": zone}]);
    }
    if distribution == "PreferSameNode" && is_ready && !pod.node_name.is_empty() {
        endpoint["hints"]["forNodes"] = json!([{"name": pod.node_name}]);
    }
    endpoint
}

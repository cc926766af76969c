//! What the endpoint controllers read of services and pods, and which service selects which pod.

use std::collections::BTreeMap;

use apimachinery::{LabelSelector, ObjectKey, StoredObject};
use informer::{Cache, Change};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use semantics::selectors::map_selector;
use serde::Deserialize;

/// A service that gets endpoints by selector.
#[derive(Clone, Debug)]
pub(crate) struct Selecting {
    pub(crate) selector: LabelSelector,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) is_headless: bool,
    pub(crate) publishes_not_ready: bool,
    /// `IPv4`, `IPv6`, in the service's order.
    pub(crate) families: Vec<&'static str>,
    pub(crate) traffic_distribution: String,
}

impl Selecting {
    /// `None` for a service whose endpoints are somebody else's business: without selector, or an external name.
    pub(crate) fn of(service: &StoredObject) -> Option<Self> {
        let spec = service.decode::<Service>().ok()?.spec?;
        let selector = spec
            .selector
            .as_ref()
            .filter(|selector| !selector.is_empty())?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let cluster_ip = spec.cluster_ip.as_deref().unwrap_or_default();
        let named = spec
            .ip_families
            .iter()
            .flatten()
            .map(|family| family_named(family));
        let mut families: Vec<&'static str> = named.collect();
        if families.is_empty() {
            families.push(family_of(cluster_ip));
        }
        Some(Self {
            selector: map_selector(Some(selector)),
            is_headless: cluster_ip == "None",
            publishes_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            families,
            traffic_distribution: spec.traffic_distribution.clone().unwrap_or_default(),
            ports: spec.ports.unwrap_or_default(),
        })
    }
}

fn family_named(family: &str) -> &'static str {
    if family == "IPv6" { "IPv6" } else { "IPv4" }
}

pub(crate) fn family_of(address: &str) -> &'static str {
    if address.contains(':') {
        "IPv6"
    } else {
        "IPv4"
    }
}

/// A pod as an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointPod {
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
    pub(crate) node_name: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) is_ready: bool,
    pub(crate) is_terminating: bool,
    pub(crate) is_finished: bool,
    pub(crate) hostname: String,
    pub(crate) subdomain: String,
    /// Name, protocol, number.
    ports: Vec<(String, String, i32)>,
}

impl EndpointPod {
    pub(crate) fn of(stored: &StoredObject) -> Option<Self> {
        let pod: Pod = stored.decode().ok()?;
        let spec = pod.spec.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let mut addresses: Vec<String> = status
            .pod_ips
            .into_iter()
            .flatten()
            .map(|address| address.ip)
            .collect();
        if addresses.is_empty() {
            addresses.extend(status.pod_ip.filter(|address| !address.is_empty()));
        }
        let sidecars = spec.init_containers.into_iter().flatten();
        let sidecars =
            sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let containers = spec.containers.into_iter().chain(sidecars);
        let ports = containers.flat_map(|container| container.ports.unwrap_or_default());
        let protocol = |protocol: Option<String>| protocol.unwrap_or_else(|| "TCP".to_owned());
        let mut conditions = status.conditions.into_iter().flatten();
        Some(Self {
            key: stored.key().clone(),
            uid: stored.index.uid.clone(),
            node_name: spec.node_name.unwrap_or_default(),
            addresses,
            is_ready: conditions
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            is_terminating: stored.index.is_being_deleted,
            is_finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            hostname: spec.hostname.unwrap_or_default(),
            subdomain: spec.subdomain.unwrap_or_default(),
            ports: ports
                .filter_map(|port| Some((port.name?, protocol(port.protocol), port.container_port)))
                .collect(),
        })
    }

    pub(crate) fn address(&self, family: &str) -> Option<&str> {
        self.addresses
            .iter()
            .map(String::as_str)
            .find(|address| family_of(address) == family)
    }

    /// The number of a service's port in this pod; `None` if it names one the pod has not.
    pub(crate) fn target_port(&self, port: &ServicePort) -> Option<i32> {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        match &port.target_port {
            None | Some(IntOrString::Int(0)) => Some(port.port),
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => self
                .ports
                .iter()
                .find(|(known, of, _)| known == name && of == protocol)
                .map(|(_, _, number)| *number)
                // A number given as text is a number.
                .or_else(|| name.parse().ok()),
        }
    }

    /// The DNS name of the pod under the service, if it has one there.
    pub(crate) fn hostname_in(&self, service: &ObjectKey) -> Option<&str> {
        let is_named = !self.hostname.is_empty()
            && self.subdomain == service.name
            && self.key.namespace == service.namespace;
        is_named.then_some(&self.hostname)
    }
}

/// The services whose endpoints a change of a pod can touch.
pub(crate) fn services_of_pod(services: &Cache, change: &Change) -> Vec<ObjectKey> {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    if let (Some(old), Some(new)) = (old, new) {
        let is_same =
            old.index.labels == new.index.labels && EndpointPod::of(old) == EndpointPod::of(new);
        if is_same {
            return Vec::new();
        }
    }
    let selects = |service: &StoredObject| {
        let Ok(service) = service.view::<SelectorOnly>() else {
            return false;
        };
        let selector = map_selector(service.spec.selector.as_ref());
        [old, new]
            .into_iter()
            .flatten()
            .any(|pod| selector.matches_with(|key| pod.index.label(key)))
    };
    let services = services.list_namespace(&change.key().namespace).into_iter();
    services
        .filter(selects)
        .map(|service| service.key().clone())
        .collect()
}

/// The pods a service selects, in the order of their names.
pub(crate) fn selected_pods(
    pods: &Cache,
    namespace: &str,
    selector: &LabelSelector,
) -> Vec<EndpointPod> {
    let pods = pods.list_namespace(namespace).into_iter();
    let selected = pods.filter(|pod| selector.matches_with(|key| pod.index.label(key)));
    selected.filter_map(|pod| EndpointPod::of(&pod)).collect()
}

#[derive(Deserialize)]
struct SelectorOnly {
    spec: SelectorSpec,
}

#[derive(Deserialize)]
struct SelectorSpec {
    selector: Option<BTreeMap<String, String>>,
}

//! Mirrors Endpoints that people write for services without selector as endpoint slices.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::ObjectKey;
use controller::{Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::{labels_of, standing};
use crate::ownership::Owner;
use crate::services::family_of;
use crate::slices::{Common, Group, MANAGED_BY, OF_SERVICE, SERVICE_NAME, Standing, reconcile};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of one subset that are mirrored; the rest is left out, as upstream leaves it.
const SUBSET_ADDRESSES_MAX: usize = 1000;

pub(crate) struct Mirroring {
    endpoints: Arc<Cache>,
    services: Arc<Cache>,
    slices: Arc<Cache>,
}

/// Endpoints and what of them is mirrored already.
pub(crate) struct View {
    owner: Owner,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// Empty if they are not to be mirrored.
    subsets: Vec<EndpointSubset>,
    is_mirrored: bool,
    standing: Vec<Standing>,
}

impl Mirroring {
    pub(crate) fn new(factory: &Factory) -> Self {
        let slices = factory.all::<EndpointSlice>();
        slices.add_index(OF_SERVICE);
        Self {
            endpoints: factory.all::<Endpoints>(),
            services: factory.all::<Service>(),
            slices,
        }
    }

    /// Does a service of this name leave its endpoints to people?
    fn has_open_service(&self, key: &ObjectKey) -> bool {
        let service = self
            .services
            .get(key)
            .and_then(|service| service.decode::<Service>().ok());
        service
            .and_then(|service| service.spec)
            .is_some_and(|spec| spec.selector.is_none_or(|selector| selector.is_empty()))
    }
}

impl Controller for Mirroring {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "endpointslicemirroring-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.endpoints);
        on.primary(&self.services);
        on.mapped(&self.slices, |change| {
            let slice = change.latest();
            let is_ours = slice.index.label(MANAGED_BY) == Some(MANAGER);
            let service = slice.index.label(SERVICE_NAME).filter(|_| is_ours);
            service
                .map(|name| ObjectKey::namespaced(slice.key().namespace.clone(), name))
                .into_iter()
                .collect()
        });
    }

    /// Endpoints that are gone take their slices with them through the garbage collector.
    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        let stored = self.endpoints.get(key)?;
        let endpoints: Endpoints = stored.decode().ok()?;
        let annotations = endpoints.metadata.annotations.unwrap_or_default();
        let is_mirrored = stored.index.label(SKIP) != Some("true")
            && !annotations.contains_key(LEADER)
            && !stored.index.is_being_deleted
            && self.has_open_service(key);
        Some(View {
            owner: Owner::of::<Endpoints>(&stored.index),
            labels: labels_of(&stored.index.labels),
            annotations,
            subsets: endpoints.subsets.unwrap_or_default(),
            is_mirrored,
            standing: standing(&self.slices, key, MANAGER),
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let groups = if view.is_mirrored {
            groups(&view.subsets)
        } else {
            Vec::new()
        };
        Plan::of(reconcile(&common(view), &view.standing, &groups))
    }
}

fn common(view: &View) -> Common {
    let mut labels = view.labels.clone();
    labels.insert(SERVICE_NAME.into(), view.owner.key.name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = view.annotations.clone();
    annotations.remove(LAST_APPLIED);
    annotations.remove("endpoints.kubernetes.io/last-change-trigger-time");
    Common {
        namespace: view.owner.key.namespace.clone(),
        generate_name: format!("{}-", view.owner.key.name),
        labels,
        annotations,
        owner: view.owner.reference(),
        endpoints_max: SUBSET_ADDRESSES_MAX,
    }
}

fn groups(subsets: &[EndpointSubset]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for subset in subsets {
        let ready = subset
            .addresses
            .iter()
            .flatten()
            .map(|address| (address, true));
        let not_ready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|address| (address, false));
        let ports = ports(subset);
        for (address, is_ready) in ready.chain(not_ready).take(SUBSET_ADDRESSES_MAX) {
            let family = family_of(&address.ip);
            let known = groups
                .iter_mut()
                .find(|group| group.address_type == family && group.ports == ports);
            let endpoint = endpoint(address, is_ready);
            match known {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group {
                    address_type: family,
                    ports: ports.clone(),
                    endpoints: vec![endpoint],
                }),
            }
        }
    }
    groups
}

fn ports(subset: &EndpointSubset) -> Vec<Value> {
    let port = |port: &k8s_openapi::api::core::v1::EndpointPort| {
        let mut value = json!({
            "name": port.name.as_deref().unwrap_or_default(), "port": port.port,
            "protocol": port.protocol.as_deref().unwrap_or("TCP"),
        });
        if let Some(app_protocol) = &port.app_protocol {
            value["appProtocol"] = app_protocol.clone().into();
        }
        value
    };
    subset.ports.iter().flatten().map(port).collect()
}

fn endpoint(address: &EndpointAddress, is_ready: bool) -> Value {
    let mut endpoint = json!({"addresses": [address.ip], "conditions": {"ready": is_ready}});
    if let Some(target) = &address.target_ref {
        endpoint["targetRef"] = serde_json::to_value(target).unwrap_or_default();
    }
    if let Some(node_name) = &address.node_name {
        endpoint["nodeName"] = node_name.clone().into();
    }
    if let Some(hostname) = &address.hostname {
        endpoint["hostname"] = hostname.clone().into();
    }
    endpoint
}

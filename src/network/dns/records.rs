//! What the cluster's names mean. Pure: objects go in, answers come out; one object changes only its own entries.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "None";

/// Namespace and name.
pub(crate) type ServiceName = (String, String);

/// The records of a cluster.
#[derive(Debug, Default)]
pub struct Records {
    pub(crate) namespaces: BTreeSet<String>,
    services: BTreeMap<ServiceName, ServiceKind>,
    slices: BTreeMap<ServiceName, BTreeMap<String, Slice>>,
    /// Which Service a slice belongs to, by the slice's own namespace and name.
    owners: BTreeMap<(String, String), ServiceName>,
    by_cluster_ip: BTreeMap<IpAddr, ServiceName>,
    /// Endpoints with a host name of their own.
    by_endpoint: BTreeMap<IpAddr, BTreeSet<(ServiceName, String)>>,
    /// Grows with every change: the serial number of the zone.
    pub(crate) serial: u32,
    /// All objects were read once.
    pub(crate) is_complete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServiceKind {
    ClusterIp {
        addresses: Vec<IpAddr>,
        ports: Vec<Port>,
    },
    Headless,
    /// `ExternalName`: an alias for a name elsewhere.
    External {
        name: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) number: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) ports: Vec<Port>,
    pub(crate) endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) hostname: Option<String>,
}

impl Endpoint {
    /// The endpoint's label: its host name, or its address with dashes.
    pub(crate) fn label(&self) -> String {
        self.hostname
            .clone()
            .unwrap_or_else(|| self.address.to_string().replace(['.', ':'], "-"))
    }
}

impl Records {
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on a name that is not there does not exist; until then questions about the cluster fail.
    pub fn complete(&mut self) {
        self.is_complete = true;
    }

    pub fn put_namespace(&mut self, name: &str) {
        self.serial = self.serial.wrapping_add(1);
        self.namespaces.insert(name.to_owned());
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.serial = self.serial.wrapping_add(1);
        self.namespaces.remove(name);
    }

    /// Takes a Service in its new state.
    pub fn put_service(&mut self, service: &Service) {
        let Some(name) = key(
            service.metadata.namespace.as_ref(),
            service.metadata.name.as_ref(),
        ) else {
            return;
        };
        self.remove_service(&name.0, &name.1);
        let Some(kind) = service_kind(service) else {
            return;
        };
        if let ServiceKind::ClusterIp { addresses, .. } = &kind {
            for address in addresses {
                self.by_cluster_ip.insert(*address, name.clone());
            }
        }
        self.services.insert(name, kind);
    }

    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        self.serial = self.serial.wrapping_add(1);
        let name = (namespace.to_owned(), name.to_owned());
        if let Some(ServiceKind::ClusterIp { addresses, .. }) = self.services.remove(&name) {
            for address in addresses {
                if self.by_cluster_ip.get(&address) == Some(&name) {
                    self.by_cluster_ip.remove(&address);
                }
            }
        }
    }

    /// Takes an `EndpointSlice` in its new state.
    pub fn put_slice(&mut self, slice: &EndpointSlice) {
        let Some(own) = key(
            slice.metadata.namespace.as_ref(),
            slice.metadata.name.as_ref(),
        ) else {
            return;
        };
        self.remove_slice(&own.0, &own.1);
        let labels = slice.metadata.labels.as_ref();
        let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL)) else {
            return;
        };
        let owner = (own.0.clone(), service.clone());
        let facts = slice_facts(slice);
        for endpoint in &facts.endpoints {
            if let Some(hostname) = &endpoint.hostname {
                let names = self.by_endpoint.entry(endpoint.address).or_default();
                names.insert((owner.clone(), hostname.clone()));
            }
        }
        self.slices
            .entry(owner.clone())
            .or_default()
            .insert(own.1.clone(), facts);
        self.owners.insert(own, owner);
    }

    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        self.serial = self.serial.wrapping_add(1);
        let Some(owner) = self.owners.remove(&(namespace.to_owned(), name.to_owned())) else {
            return;
        };
        let Some(slices) = self.slices.get_mut(&owner) else {
            return;
        };
        let removed = slices.remove(name);
        let named = |slice: &Slice| -> BTreeSet<(IpAddr, String)> {
            let endpoints = slice.endpoints.iter();
            endpoints
                .filter_map(|endpoint| Some((endpoint.address, endpoint.hostname.clone()?)))
                .collect()
        };
        // Another slice of the Service may name the same endpoint.
        let kept: BTreeSet<_> = slices.values().flat_map(named).collect();
        if slices.is_empty() {
            self.slices.remove(&owner);
        }
        for (address, hostname) in removed
            .iter()
            .flat_map(named)
            .filter(|gone| !kept.contains(gone))
        {
            if let Some(names) = self.by_endpoint.get_mut(&address) {
                names.remove(&(owner.clone(), hostname));
                if names.is_empty() {
                    self.by_endpoint.remove(&address);
                }
            }
        }
    }

    pub(crate) fn service(&self, name: &ServiceName) -> Option<&ServiceKind> {
        self.services.get(name)
    }

    pub(crate) fn slices(&self, name: &ServiceName) -> impl Iterator<Item = &Slice> {
        self.slices.get(name).into_iter().flat_map(BTreeMap::values)
    }

    pub(crate) fn service_of_cluster_ip(&self, address: IpAddr) -> Option<&ServiceName> {
        self.by_cluster_ip.get(&address)
    }

    pub(crate) fn named_endpoints(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = &(ServiceName, String)> {
        self.by_endpoint.get(&address).into_iter().flatten()
    }
}

fn service_kind(service: &Service) -> Option<ServiceKind> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return Some(ServiceKind::External {
            name: spec.external_name.clone()?,
        });
    }
    if spec.cluster_ip.as_deref() == Some(HEADLESS) {
        return Some(ServiceKind::Headless);
    }
    let addresses: Vec<IpAddr> = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter_map(|address| address.parse().ok())
        .collect();
    let ports = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| port_of(port.name.as_deref(), port.protocol.as_deref(), port.port));
    (!addresses.is_empty()).then(|| ServiceKind::ClusterIp {
        addresses,
        ports: ports.collect(),
    })
}

fn slice_facts(slice: &EndpointSlice) -> Slice {
    let ports = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| port_of(port.name.as_deref(), port.protocol.as_deref(), port.port?));
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
        endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true)
    });
    let endpoints = ready.filter_map(|endpoint| {
        Some(Endpoint {
            address: endpoint.addresses.first()?.parse().ok()?,
            hostname: endpoint
                .hostname
                .clone()
                .filter(|hostname| !hostname.is_empty()),
        })
    });
    Slice {
        ports: ports.collect(),
        endpoints: endpoints.collect(),
    }
}

fn port_of(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Port> {
    Some(Port {
        name: name.unwrap_or_default().to_ascii_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
        number: u16::try_from(number).ok()?,
    })
}

fn key(namespace: Option<&String>, name: Option<&String>) -> Option<(String, String)> {
    Some((namespace?.clone(), name?.clone()))
}

//! The cluster's DNS: every node answers its own pods, and a Service `kube-dns` without a selector leads them there.
//!
//! A node answers on its address in its pod network, at a port that is the same everywhere; so the server can say in EndpointSlices where
//! all of them are, and no node has to be allowed to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use apimachinery::{GroupVersionResource, Object, StoredObject};
use informer::Factory;
use k8s_openapi::api::core::v1::Node;
use kube_client::{Client, ClientError, DeleteOptions};
use pod_network::{PodNetwork, node_address_in, pod_cidrs_of};
use serde_json::{Value, json};

use crate::control_plane::Basics;
use crate::node_network::inner_address;

const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
const SLICE_PREFIX: &str = "kube-dns-combo";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "combo";
const PORT: u16 = 53;
/// Where nodes answer; 53 itself may be taken by the machine's own resolver, which likes to listen everywhere.
const NODE_PORT: u16 = 10053;
/// Upstream's limit on endpoints in one slice.
const ENDPOINTS_MAX: usize = 1000;

/// A node's DNS in this process.
#[derive(Clone)]
pub(crate) struct NodeDns {
    pub(crate) domain: String,
    pub(crate) service_addresses: Vec<IpAddr>,
    /// Whom it asks for names outside the cluster.
    pub(crate) resolv_conf: PathBuf,
    pub(crate) pods: PodNetwork,
    pub(crate) factory: Factory,
    pub(crate) basics: Basics,
}

impl NodeDns {
    /// Answers on the node's address in its pod network, as soon as it has one. Returns at the end of the process, and when
    /// the address is another: then it has to be run again.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut ranges = self.pods.pod_cidrs();
        let address = inner_address(&self.pods).await;
        ranges.mark_unchanged();
        let config = dns::Config {
            cluster_domain: self.domain,
            listen: vec![SocketAddr::new(address, NODE_PORT)],
            service_addresses: self.service_addresses,
            resolv_conf: self.resolv_conf,
        };
        let server = dns::Dns::bind(config, self.basics.clock.clone())
            .await
            .context("start the cluster's DNS")?;
        let (records, shutdown) = (server.records(), &self.basics.shutdown);
        tokio::select! {
            biased;
            () = dns::follow(&records, &self.factory, shutdown.clone()) => Ok(()),
            () = server.run(shutdown.clone()) => Ok(()),
            _changed = ranges.changed() => Ok(()),
        }
    }
}

/// Keeps the Service and the list of the nodes that answer, until the end is asked for.
pub(crate) async fn keep_published(
    client: &Client,
    factory: &Factory,
    cluster_ip: IpAddr,
    basics: &Basics,
) -> anyhow::Result<()> {
    keep_service(client, &cluster_ip.to_string())
        .await
        .context("publish the DNS Service")?;
    let nodes = factory.all::<Node>();
    let changes = nodes.subscribe();
    nodes.wait_for_sync().await;
    let mut published = Vec::new();
    loop {
        let wanted = slices(&nodes.list());
        if wanted != published {
            keep_slices(client, &wanted)
                .await
                .context("publish the nodes that answer DNS")?;
            published = wanted;
        }
        tokio::select! {
            biased;
            () = basics.shutdown.requested() => return Ok(()),
            _change = changes.next() => {}
        }
    }
}

/// Takes away what an earlier start published, and nothing that somebody put in its place.
pub(crate) async fn withdraw(client: &Client) -> Result<(), ClientError> {
    keep_slices(client, &[]).await?;
    let services = client.dynamic(GroupVersionResource::new("", "v1", "services"), NAMESPACE);
    let service = match services.get(SERVICE).await {
        Err(error) if error.is_not_found() => return Ok(()),
        found => found?,
    };
    let has_selector = service.at(&["spec", "selector"]).is_some();
    if !has_selector {
        let options = DeleteOptions::only(service.uid());
        services.delete(SERVICE, &options).await?;
    }
    Ok(())
}

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap_or_default()
}

/// Makes the Service if it is missing.
async fn keep_service(client: &Client, cluster_ip: &str) -> Result<(), ClientError> {
    let services = client.dynamic(GroupVersionResource::new("", "v1", "services"), NAMESPACE);
    match services.get(SERVICE).await {
        Err(error) if error.is_not_found() => drop(services.create(&service(cluster_ip)).await?),
        other => drop(other?),
    }
    Ok(())
}

async fn keep_slices(client: &Client, wanted: &[Object]) -> Result<(), ClientError> {
    let slices = client.dynamic(slices_resource(), NAMESPACE);
    for slice in wanted {
        match slices.get(slice.name()).await {
            Ok(mut present) => {
                for field in ["endpoints", "ports"] {
                    present.set_at(&[field], slice.at(&[field]).cloned().unwrap_or_default());
                }
                drop(slices.update(&present).await?);
            }
            Err(error) if error.is_not_found() => drop(slices.create(slice).await?),
            Err(error) => return Err(error),
        }
    }
    let kept: Vec<&str> = wanted.iter().map(Object::name).collect();
    let ours = format!("{MANAGED_BY}={MANAGER},kubernetes.io/service-name={SERVICE}");
    let ours = slices.list(&ours, "").await?;
    for slice in ours.items {
        let name = &slice.key().name;
        if !kept.contains(&name.as_str()) {
            slices.delete(name, &DeleteOptions::default()).await?;
        }
    }
    Ok(())
}

fn slices_resource() -> GroupVersionResource {
    GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices")
}

/// Pure: the slices that lead to all nodes which have pod addresses, in the order of their names.
fn slices(nodes: &[StoredObject]) -> Vec<Object> {
    let mut places: Vec<(String, IpAddr)> = nodes
        .iter()
        .filter_map(|node| {
            let first = *pod_cidrs_of(node).first()?;
            Some((node.key().name.clone(), node_address_in(first)))
        })
        .collect();
    places.sort();
    let (four, six): (Vec<_>, Vec<_>) = places
        .into_iter()
        .partition(|(_, address)| address.is_ipv4());
    [("IPv4", four), ("IPv6", six)]
        .into_iter()
        .flat_map(|(family, places)| {
            let chunks = places.chunks(ENDPOINTS_MAX).enumerate();
            chunks
                .map(|(number, chunk)| slice(family, number, chunk))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn ports(target: Option<u16>) -> Value {
    ["UDP", "TCP"]
        .map(|protocol| {
            let name = if protocol == "UDP" { "dns" } else { "dns-tcp" };
            json!({"name": name, "port": target.unwrap_or(PORT), "protocol": protocol})
        })
        .into_iter()
        .collect()
}

fn service(cluster_ip: &str) -> Object {
    object(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE, "labels": {
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
        // Each node answers its own pods: what one of them asks stays on it, also when it is cut off.
        "spec": {"clusterIP": cluster_ip, "ports": ports(None), "internalTrafficPolicy": "Local"},
    }))
}

fn slice(family: &str, number: usize, places: &[(String, IpAddr)]) -> Object {
    let endpoints: Vec<Value> = places
        .iter()
        .map(|(node, address)| {
            json!({"addresses": [address.to_string()], "conditions": {"ready": true}, "nodeName": node})
        })
        .collect();
    let name = format!("{SLICE_PREFIX}-{}-{number}", family.to_lowercase());
    object(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {
            "kubernetes.io/service-name": SERVICE, MANAGED_BY: MANAGER}},
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports(Some(NODE_PORT)),
    }))
}

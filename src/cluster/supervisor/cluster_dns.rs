//! The Service that the cluster's DNS stands behind: a selector-less `kube-dns` with this process as its endpoint.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use apimachinery::{GroupVersionResource, Object};
use informer::Factory;
use kube_client::{Client, ClientError};
use pod_network::PodNetwork;
use serde_json::{Value, json};

use crate::control_plane::Basics;
use crate::node_network::inner_address;

const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
const SLICE: &str = "kube-dns-combo";
const PORT: u16 = 53;

/// The cluster's DNS in this process.
#[derive(Clone)]
pub(crate) struct ClusterDns {
    pub(crate) domain: String,
    pub(crate) service_address: IpAddr,
    pub(crate) node_name: String,
    pub(crate) pods: PodNetwork,
    pub(crate) factory: Factory,
    /// Makes the Service.
    pub(crate) client: Client,
    pub(crate) basics: Basics,
}

impl ClusterDns {
    /// Answers on the node's address in its pod network, as soon as it has one. Returns at the end of the process, and when
    /// the address is another: then it has to be run again.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut ranges = self.pods.pod_cidrs();
        let address = inner_address(&self.pods).await;
        ranges.mark_unchanged();
        let config = dns::Config {
            cluster_domain: self.domain,
            listen: vec![SocketAddr::new(address, 0)],
            service_addresses: vec![self.service_address],
            resolv_conf: "/etc/resolv.conf".into(),
        };
        let server = dns::Dns::bind(config, self.basics.clock.clone())
            .await
            .context("start the cluster's DNS")?;
        let listening = server.local_addresses().first().copied();
        let listening = listening.context("DNS listens nowhere")?;
        let cluster_ip = self.service_address.to_string();
        publish(&self.client, &cluster_ip, listening, &self.node_name)
            .await
            .context("publish the DNS Service")?;
        let (records, shutdown) = (server.records(), &self.basics.shutdown);
        tokio::select! {
            biased;
            () = dns::follow(&records, &self.factory, shutdown.clone()) => Ok(()),
            () = server.run(shutdown.clone()) => Ok(()),
            _changed = ranges.changed() => Ok(()),
        }
    }
}

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap_or_default()
}

/// Makes the Service if it is missing, and points it at `address`.
async fn publish(
    client: &Client,
    cluster_ip: &str,
    address: SocketAddr,
    node: &str,
) -> Result<(), ClientError> {
    let services = client.dynamic(GroupVersionResource::new("", "v1", "services"), NAMESPACE);
    match services.get(SERVICE).await {
        Err(error) if error.is_not_found() => drop(services.create(&service(cluster_ip)).await?),
        other => drop(other?),
    }
    let slices = client.dynamic(
        GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices"),
        NAMESPACE,
    );
    let wanted = slice(address, node);
    match slices.get(SLICE).await {
        Ok(mut present) => {
            if present.at(&["endpoints"]) == wanted.at(&["endpoints"])
                && present.at(&["ports"]) == wanted.at(&["ports"])
            {
                return Ok(());
            }
            for field in ["endpoints", "ports"] {
                present.set_at(&[field], wanted.at(&[field]).cloned().unwrap_or_default());
            }
            slices.update(&present).await.map(drop)
        }
        Err(error) if error.is_not_found() => slices.create(&wanted).await.map(drop),
        Err(error) => Err(error),
    }
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
        "spec": {"clusterIP": cluster_ip, "ports": ports(None)},
    }))
}

fn slice(address: SocketAddr, node: &str) -> Object {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    object(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": SLICE, "namespace": NAMESPACE, "labels": {
            "kubernetes.io/service-name": SERVICE, "endpointslice.kubernetes.io/managed-by": "combo"}},
        "addressType": family,
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}, "nodeName": node}],
        "ports": ports(Some(address.port())),
    }))
}

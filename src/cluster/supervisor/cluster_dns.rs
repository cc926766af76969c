//! The Service that the cluster's DNS stands behind: a selector-less `kube-dns` with this process as its endpoint.

use std::net::SocketAddr;

use apimachinery::{GroupVersionResource, Object};
use kube_client::{Client, ClientError};
use serde_json::{Value, json};

const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
const SLICE: &str = "kube-dns-combo";
const PORT: u16 = 53;

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap_or_default()
}

/// Makes the Service if it is missing, and points it at `address`.
pub(crate) async fn publish(
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

//! Services of type `LoadBalancer` against an API in memory.

mod support;

use k8s_openapi::api::core::v1::{Event, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::DeleteOptions;
use serde_json::{Value, json};
use support::Cluster;

async fn cluster() -> Cluster {
    let cluster = Cluster::start(&["service-lb-controller"]);
    for number in [1, 2] {
        let name = format!("node{number}");
        let object = json!({"metadata": {"name": name}, "status": {
            "addresses": [{"type": "InternalIP", "address": format!("10.0.0.{number}")}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
        cluster.create::<Node>("", object).await;
    }
    cluster
}

async fn service(cluster: &Cluster, name: &str, second: u8, more: Value) {
    let mut spec = json!({"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": [{"port": 80, "protocol": "TCP"}]});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    let created = format!("2026-01-01T00:00:{second:02}Z");
    let object = json!({"metadata": {"name": name, "creationTimestamp": created}, "spec": spec});
    cluster.create::<Service>("default", object).await;
}

/// The addresses in a Service's status.
fn addresses(cluster: &Cluster, name: &str) -> Vec<String> {
    let service = cluster
        .get::<Service>("default", name)
        .expect("the Service");
    let ingress = service.at(&["status", "loadBalancer", "ingress"]);
    let ingress = ingress.and_then(Value::as_array).cloned();
    let places = ingress.unwrap_or_default().into_iter();
    places
        .map(|place| {
            assert_eq!(place["ipMode"], "VIP");
            place["ip"].as_str().expect("a text").to_owned()
        })
        .collect()
}

fn warnings(cluster: &Cluster) -> Vec<String> {
    let events = cluster.all::<Event>().into_iter();
    let conflicts = events.filter(|event| event.text_at(&["reason"]) == "PortConflict");
    conflicts
        .map(|event| event.text_at(&["message"]).clone())
        .collect()
}

#[tokio::test]
async fn the_older_service_keeps_its_port_and_the_other_is_told_and_takes_over() {
    let cluster = cluster().await;
    service(&cluster, "first", 1, json!({})).await;
    service(
        &cluster,
        "foreign",
        1,
        json!({"loadBalancerClass": "example.com/other"}),
    )
    .await;
    let both = ["10.0.0.1", "10.0.0.2"];
    cluster
        .until("the first has all nodes", |cluster| {
            addresses(cluster, "first") == both
        })
        .await;
    service(&cluster, "second", 2, json!({})).await;
    cluster
        .until("the second is told", |cluster| {
            let told = warnings(cluster);
            told.iter().any(|told| told.contains("default/first"))
        })
        .await;
    assert!(addresses(&cluster, "second").is_empty());
    let now = DeleteOptions::default();
    cluster.delete::<Service>("default", "first", now).await;
    cluster
        .until("the second takes over", |cluster| {
            addresses(cluster, "second") == both
        })
        .await;
    assert_eq!(warnings(&cluster).len(), 1);
    assert!(addresses(&cluster, "foreign").is_empty());
}

#[tokio::test]
async fn addresses_follow_nodes_and_endpoints() {
    let cluster = cluster().await;
    service(
        &cluster,
        "local",
        1,
        json!({"externalTrafficPolicy": "Local"}),
    )
    .await;
    service(
        &cluster,
        "web",
        2,
        json!({"ports": [{"port": 81, "protocol": "TCP"}]}),
    )
    .await;
    cluster
        .until("all nodes serve", |cluster| {
            addresses(cluster, "web") == ["10.0.0.1", "10.0.0.2"]
        })
        .await;
    assert!(addresses(&cluster, "local").is_empty());
    let slice = json!({
        "metadata": {"name": "local-1", "labels": {"kubernetes.io/service-name": "local"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.1"], "nodeName": "node2"}]});
    cluster.create::<EndpointSlice>("default", slice).await;
    cluster
        .until("a node with an endpoint serves", |cluster| {
            addresses(cluster, "local") == ["10.0.0.2"]
        })
        .await;
    let lost = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    cluster.merge_status::<Node>("", "node2", lost).await;
    cluster
        .until("a lost node does not", |cluster| {
            addresses(cluster, "web") == ["10.0.0.1"] && addresses(cluster, "local").is_empty()
        })
        .await;
    let labels = json!({"metadata": {"labels": {"svccontroller.k3s.cattle.io/enablelb": "true"}}});
    cluster.merge::<Node>("", "node2", labels).await;
    cluster
        .until("only enabled nodes count", |cluster| {
            addresses(cluster, "web").is_empty()
        })
        .await;
}

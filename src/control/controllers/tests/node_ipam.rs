//! Nodes and their shares of the pod addresses.

mod support;

use controllers::{MaskSizes, NodeCidrs, Options};
use k8s_openapi::api::core::v1::{Event, Node};
use kube_client::DeleteOptions;
use serde_json::{Value, json};
use support::Cluster;

fn start(cluster_cidrs: &[&str]) -> Cluster {
    let ranges: Vec<_> = cluster_cidrs
        .iter()
        .map(|range| range.parse().expect("a range"))
        .collect();
    let shares = NodeCidrs::new(&ranges, MaskSizes::default()).expect("shares");
    let options = Options {
        node_cidrs: Some(shares),
        ..Options::default()
    };
    Cluster::start_with(&["node-ipam-controller"], &options)
}

async fn join(cluster: &Cluster, name: &str, annotations: Value) {
    let node = json!({"metadata": {"name": name, "annotations": annotations}});
    cluster.create::<Node>("", node).await;
}

fn ranges(cluster: &Cluster, name: &str) -> String {
    let Some(node) = cluster.get::<Node>("", name) else {
        return String::new();
    };
    let ranges = node.at(&["spec", "podCIDRs"]).cloned().unwrap_or_default();
    let first = node.text_at(&["spec", "podCIDR"]).clone();
    let ranges: Vec<String> = serde_json::from_value(ranges).unwrap_or_default();
    assert_eq!(ranges.first().map_or("", String::as_str), first);
    ranges.join(",")
}

#[tokio::test]
async fn nodes_get_different_shares_of_every_family_and_a_freed_one_is_given_again() {
    let cluster = start(&["10.42.0.0/16", "fd42::/56"]);
    for name in ["a", "b", "c"] {
        join(&cluster, name, json!({})).await;
    }
    cluster
        .until("all have shares", |cluster| {
            ["a", "b", "c"]
                .iter()
                .all(|name| !ranges(cluster, name).is_empty())
        })
        .await;
    let mut all = ["a", "b", "c"].map(|name| ranges(&cluster, name));
    let of_b = all[1].clone();
    all.sort();
    assert_eq!(
        all,
        [
            "10.42.0.0/24,fd42::/64",
            "10.42.1.0/24,fd42:0:0:1::/64",
            "10.42.2.0/24,fd42:0:0:2::/64"
        ]
    );
    cluster
        .delete::<Node>("", "b", DeleteOptions::default())
        .await;
    join(&cluster, "d", json!({})).await;
    cluster
        .until("the freed share is given again", |cluster| {
            ranges(cluster, "d") == of_b
        })
        .await;
}

#[tokio::test]
async fn a_node_that_comes_back_keeps_the_share_that_its_pods_have_addresses_of() {
    let cluster = start(&["10.42.0.0/16"]);
    join(&cluster, "a", json!({"combo.io/pod-cidrs": "10.42.9.0/24"})).await;
    cluster
        .until("it has its share", |cluster| {
            ranges(cluster, "a") == "10.42.9.0/24"
        })
        .await;
}

#[tokio::test]
async fn people_are_told_once_that_no_share_is_left_and_a_free_one_ends_the_wait() {
    let cluster = start(&["10.42.0.0/24"]);
    join(&cluster, "a", json!({})).await;
    cluster
        .until("the first has its share", |cluster| {
            ranges(cluster, "a") == "10.42.0.0/24"
        })
        .await;
    join(&cluster, "b", json!({})).await;
    join(&cluster, "c", json!({})).await;
    let told = |cluster: &Cluster, name: &str| {
        let events = cluster.all::<Event>();
        let mut events = events.iter();
        events.any(|event| {
            event.text_at(&["reason"]) == "CIDRNotAvailable"
                && event.text_at(&["involvedObject", "name"]) == name
        })
    };
    cluster
        .until("people are told of both", |cluster| {
            told(cluster, "b") && told(cluster, "c")
        })
        .await;
    cluster
        .delete::<Node>("", "a", DeleteOptions::default())
        .await;
    cluster
        .until("one has the share", |cluster| {
            ranges(cluster, "b") + &ranges(cluster, "c") == "10.42.0.0/24"
        })
        .await;
    assert!(
        cluster
            .all::<Event>()
            .iter()
            .all(|event| { event.at(&["count"]).and_then(Value::as_i64).unwrap_or(1) == 1 })
    );
}

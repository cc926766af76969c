//! Daemon sets against an API in memory; the tests bind pods by the affinity they carry.

mod support;

use apimachinery::Object;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use support::{Cluster, number};

fn daemon_set(image: &str) -> Value {
    json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"app": "d"}}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
    }})
}

fn target(pod: &Object) -> String {
    let terms = pod.at(&[
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ]);
    terms
        .and_then(|terms| terms[0]["matchFields"][0]["values"][0].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn images(cluster: &Cluster) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = cluster
        .all::<Pod>()
        .iter()
        .filter(|pod| !pod.is_being_deleted())
        .map(|pod| {
            (
                target(pod),
                pod.at(&["spec", "containers"])
                    .map_or(String::new(), |all| {
                        all[0]["image"].as_str().unwrap_or_default().to_owned()
                    }),
            )
        })
        .collect();
    all.sort();
    all
}

async fn node(cluster: &Cluster, name: &str, spec: Value) {
    cluster
        .create::<Node>("", json!({"metadata": {"name": name}, "spec": spec}))
        .await;
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(node, image)| ((*node).to_owned(), (*image).to_owned()))
        .collect()
}

#[tokio::test]
async fn every_fitting_node_has_one_pod_and_an_update_replaces_them_and_can_go_back() {
    let cluster = Cluster::start(&["daemonset-controller"]);
    cluster.run_pods();
    node(&cluster, "one", json!({})).await;
    node(&cluster, "two", json!({"unschedulable": true})).await;
    node(
        &cluster,
        "tainted",
        json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}),
    )
    .await;
    cluster.create::<DaemonSet>("a", daemon_set("x")).await;
    cluster
        .until("two pods", |cluster| {
            images(cluster) == pairs(&[("one", "x"), ("two", "x")])
        })
        .await;
    cluster
        .merge::<DaemonSet>(
            "a",
            "d",
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "y"}]}}}}),
        )
        .await;
    cluster
        .until("updated", |cluster| {
            images(cluster) == pairs(&[("one", "y"), ("two", "y")])
        })
        .await;
    assert_eq!(cluster.all::<ControllerRevision>().len(), 2);
    cluster
        .merge::<DaemonSet>(
            "a",
            "d",
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x"}]}}}}),
        )
        .await;
    cluster
        .until("back", |cluster| {
            images(cluster) == pairs(&[("one", "x"), ("two", "x")])
        })
        .await;
    cluster
        .until("status", |cluster| {
            let set = cluster.get::<DaemonSet>("a", "d").expect("a set");
            number(&set, &["status", "numberAvailable"]) == 2
                && number(&set, &["status", "updatedNumberScheduled"]) == 2
        })
        .await;
    let revisions: Vec<i64> = cluster
        .all::<ControllerRevision>()
        .iter()
        .map(|one| number(one, &["revision"]))
        .collect();
    assert!(revisions.contains(&3) && revisions.contains(&2));
}

#[tokio::test]
async fn a_failed_pod_is_replaced_and_labels_decide_where_pods_are() {
    let cluster = Cluster::start(&["daemonset-controller"]);
    cluster.run_pods();
    node(&cluster, "one", json!({})).await;
    let mut set = daemon_set("x");
    set["spec"]["template"]["spec"]["nodeSelector"] = json!({"color": "blue"});
    cluster.create::<DaemonSet>("a", set).await;
    cluster
        .until("it is seen", |cluster| {
            number(
                &cluster.get::<DaemonSet>("a", "d").expect("a set"),
                &["status", "observedGeneration"],
            ) == 1
        })
        .await;
    assert!(cluster.all::<Pod>().is_empty());
    cluster
        .merge::<Node>(
            "",
            "one",
            json!({"metadata": {"labels": {"color": "blue"}}}),
        )
        .await;
    cluster
        .until("a pod", |cluster| images(cluster).len() == 1)
        .await;
    let first = cluster.all::<Pod>()[0].name().to_owned();
    cluster
        .merge_status::<Pod>("a", &first, json!({"status": {"phase": "Failed"}}))
        .await;
    cluster
        .until("another", |cluster| {
            let pods = cluster.all::<Pod>();
            pods.len() == 1 && pods[0].name() != first
        })
        .await;
    cluster
        .merge::<Node>(
            "",
            "one",
            json!({"metadata": {"labels": {"color": "green"}}}),
        )
        .await;
    cluster
        .until("no pod", |cluster| images(cluster).is_empty())
        .await;
}

//! Stateful sets against an API in memory, with pods that run at once.

mod support;

use apimachinery::Object;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};
use support::{Cluster, number};

fn stateful_set(replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": "db"}, "spec": {
        "replicas": replicas, "serviceName": "db", "podManagementPolicy": "OrderedReady",
        "selector": {"matchLabels": {"app": "db"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}],
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
    }})
}

fn image(pod: &Object) -> String {
    pod.at(&["spec", "containers"])
        .map_or(String::new(), |all| {
            all[0]["image"].as_str().unwrap_or_default().to_owned()
        })
}

fn pods(cluster: &Cluster) -> Vec<(String, String)> {
    let staying = cluster
        .all::<Pod>()
        .into_iter()
        .filter(|pod| !pod.is_being_deleted());
    staying
        .map(|pod| (pod.name().to_owned(), image(&pod)))
        .collect()
}

fn all(image: &str, count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|number| (format!("db-{number}"), image.to_owned()))
        .collect()
}

fn patch(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[tokio::test]
async fn pods_come_up_in_order_with_their_claims_and_go_from_the_top() {
    let cluster = Cluster::start(&["statefulset-controller"]);
    cluster
        .create::<StatefulSet>("a", stateful_set(3, "x"))
        .await;
    cluster
        .until("the first", |cluster| pods(cluster).len() == 1)
        .await;
    cluster.run_pods();
    cluster
        .until("three", |cluster| pods(cluster) == all("x", 3))
        .await;
    let first = cluster.get::<Pod>("a", "db-0").expect("a pod");
    assert_eq!(first.text_at(&["spec", "hostname"]), "db-0");
    assert_eq!(
        first.at(&["spec", "volumes"]).expect("volumes")[0]["persistentVolumeClaim"]["claimName"],
        "data-db-0"
    );
    assert_eq!(cluster.all::<PersistentVolumeClaim>().len(), 3);
    cluster
        .merge::<StatefulSet>("a", "db", json!({"spec": {"replicas": 1}}))
        .await;
    cluster
        .until("one", |cluster| pods(cluster) == all("x", 1))
        .await;
    assert_eq!(cluster.all::<PersistentVolumeClaim>().len(), 3);
}

#[tokio::test]
async fn an_update_stops_at_its_partition_and_completes_without_one() {
    let cluster = Cluster::start(&["statefulset-controller"]);
    cluster.run_pods();
    cluster
        .create::<StatefulSet>("a", stateful_set(3, "x"))
        .await;
    cluster
        .until("three", |cluster| pods(cluster) == all("x", 3))
        .await;
    cluster
        .until("settled", |cluster| {
            number(
                &cluster.get::<StatefulSet>("a", "db").expect("a set"),
                &["status", "readyReplicas"],
            ) == 3
        })
        .await;
    let mut canary = patch("y");
    canary["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": 2}});
    cluster.merge::<StatefulSet>("a", "db", canary).await;
    let mut mixed = all("x", 3);
    mixed[2].1 = "y".into();
    cluster
        .until("only the last", |cluster| pods(cluster) == mixed)
        .await;
    cluster
        .delete::<Pod>("a", "db-0", kube_client::DeleteOptions::default())
        .await;
    cluster
        .until("the first comes back as it was", |cluster| {
            pods(cluster) == mixed && cluster.all::<Pod>().len() == 3
        })
        .await;
    cluster
        .merge::<StatefulSet>(
            "a",
            "db",
            json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}),
        )
        .await;
    cluster
        .until("all", |cluster| pods(cluster) == all("y", 3))
        .await;
    cluster
        .until("the update is the current one", |cluster| {
            let set = cluster.get::<StatefulSet>("a", "db").expect("a set");
            let revision = |field: &str| set.text_at(&["status", field]);
            revision("currentRevision") == revision("updateRevision")
                && number(&set, &["status", "currentReplicas"]) == 3
        })
        .await;
}

#[tokio::test]
async fn a_failed_pod_is_made_again() {
    let cluster = Cluster::start(&["statefulset-controller"]);
    cluster.run_pods();
    cluster
        .create::<StatefulSet>("a", stateful_set(1, "x"))
        .await;
    cluster
        .until("one", |cluster| pods(cluster) == all("x", 1))
        .await;
    let uid = cluster
        .get::<Pod>("a", "db-0")
        .expect("a pod")
        .uid()
        .to_owned();
    cluster
        .merge_status::<Pod>("a", "db-0", json!({"status": {"phase": "Failed"}}))
        .await;
    cluster
        .until("another", |cluster| {
            cluster
                .get::<Pod>("a", "db-0")
                .is_some_and(|pod| pod.uid() != uid)
        })
        .await;
}

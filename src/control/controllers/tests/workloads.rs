//! Deployments and replica sets against an API in memory, with pods that run at once.

mod support;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod, ReplicationController};
use serde_json::{Value, json};
use support::{Cluster, condition, number};

const WORKLOADS: &[&str] = &[
    "deployment-controller",
    "replicaset-controller",
    "replicationcontroller-controller",
];

fn deployment(replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {
        "replicas": replicas, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
    }})
}

fn image(name: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}})
}

fn is_rolled_out(cluster: &Cluster, image: &str, replicas: i64) -> bool {
    let Some(web) = cluster.get::<Deployment>("a", "web") else {
        return false;
    };
    let updated = cluster
        .all::<Pod>()
        .iter()
        .filter(|pod| {
            pod.at(&["spec", "containers"])
                .is_some_and(|containers| containers[0]["image"] == image)
        })
        .count();
    number(&web, &["status", "updatedReplicas"]) == replicas
        && number(&web, &["status", "availableReplicas"]) == replicas
        && number(&web, &["status", "replicas"]) == replicas
        && number(&web, &["status", "observedGeneration"]) == web.generation()
        && i64::try_from(updated) == Ok(replicas)
        && condition(&web, "Progressing")
            .is_some_and(|progressing| progressing["reason"] == "NewReplicaSetAvailable")
}

#[tokio::test]
async fn a_deployment_rolls_out_updates_and_cleans_up() {
    let cluster = Cluster::start(WORKLOADS);
    cluster.run_pods();
    cluster
        .create::<Deployment>("a", deployment(4, "one"))
        .await;
    cluster
        .until("first rollout", |cluster| is_rolled_out(cluster, "one", 4))
        .await;
    for (revision, name) in [("2", "two"), ("3", "three")] {
        cluster.merge::<Deployment>("a", "web", image(name)).await;
        cluster
            .until(name, |cluster| is_rolled_out(cluster, name, 4))
            .await;
        cluster
            .until("its revision", |cluster| {
                cluster.get::<Deployment>("a", "web").is_some_and(|web| {
                    web.annotation("deployment.kubernetes.io/revision") == Some(revision)
                })
            })
            .await;
    }
    cluster
        .until("one old set", |cluster| {
            cluster.all::<ReplicaSet>().len() == 2
        })
        .await;
    cluster
        .until("no pod but those wanted", |cluster| {
            cluster.all::<Pod>().len() == 4
        })
        .await;
    let scaled = |event: &apimachinery::Object| event.text_at(&["reason"]) == "ScalingReplicaSet";
    assert!(cluster.all::<Event>().iter().any(scaled));
}

#[tokio::test]
async fn a_rollback_takes_the_old_set_up_again() {
    let cluster = Cluster::start(WORKLOADS);
    cluster.run_pods();
    cluster
        .create::<Deployment>("a", deployment(2, "one"))
        .await;
    cluster
        .until("one", |cluster| is_rolled_out(cluster, "one", 2))
        .await;
    cluster.merge::<Deployment>("a", "web", image("two")).await;
    cluster
        .until("two", |cluster| is_rolled_out(cluster, "two", 2))
        .await;
    cluster.merge::<Deployment>("a", "web", image("one")).await;
    cluster
        .until("one again", |cluster| is_rolled_out(cluster, "one", 2))
        .await;
    assert_eq!(cluster.all::<ReplicaSet>().len(), 2);
    cluster
        .until("revision 3", |cluster| {
            let web = cluster.get::<Deployment>("a", "web").expect("it is there");
            web.annotation("deployment.kubernetes.io/revision") == Some("3")
        })
        .await;
}

#[tokio::test]
async fn scaling_in_the_middle_of_a_rollout_is_shared_in_proportion() {
    let cluster = Cluster::start(WORKLOADS);
    cluster.run_pods();
    let mut first = deployment(10, "one");
    first["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": 3, "maxUnavailable": 2});
    cluster.create::<Deployment>("a", first).await;
    cluster
        .until("ten", |cluster| is_rolled_out(cluster, "one", 10))
        .await;
    let mut stuck = image("two");
    stuck["spec"]["template"]["metadata"] = json!({"labels": {"app": "web", "stuck": "yes"}});
    cluster.merge::<Deployment>("a", "web", stuck).await;
    let sizes = |cluster: &Cluster| {
        let mut sizes: Vec<i64> = cluster
            .all::<ReplicaSet>()
            .iter()
            .map(|set| number(set, &["spec", "replicas"]))
            .collect();
        sizes.sort_unstable();
        sizes
    };
    cluster
        .until("eight old and five new", |cluster| sizes(cluster) == [5, 8])
        .await;
    cluster
        .merge::<Deployment>("a", "web", json!({"spec": {"replicas": 30}}))
        .await;
    cluster
        .until("twenty old and thirteen new", |cluster| {
            sizes(cluster) == [13, 20]
        })
        .await;
}

#[tokio::test]
async fn recreate_waits_until_the_old_pods_are_gone() {
    let cluster = Cluster::start(WORKLOADS);
    cluster.run_pods();
    let mut first = deployment(3, "one");
    first["spec"]["strategy"] = json!({"type": "Recreate"});
    cluster.create::<Deployment>("a", first).await;
    cluster
        .until("one", |cluster| is_rolled_out(cluster, "one", 3))
        .await;
    cluster.merge::<Deployment>("a", "web", image("two")).await;
    cluster
        .until("two", |cluster| is_rolled_out(cluster, "two", 3))
        .await;
}

#[tokio::test]
async fn a_replica_set_adopts_and_releases_by_labels() {
    let cluster = Cluster::start(WORKLOADS);
    cluster.run_pods();
    let pod = json!({"metadata": {"name": "orphan", "labels": {"app": "x"}}, "spec": {"containers": [{"name": "c"}]}});
    cluster.create::<Pod>("a", pod).await;
    let set = json!({"metadata": {"name": "set"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c"}]}}}});
    cluster.create::<ReplicaSet>("a", set).await;
    let is_owned = |cluster: &Cluster| {
        cluster
            .get::<Pod>("a", "orphan")
            .is_some_and(|pod| !pod.owner_references().is_empty())
    };
    cluster.until("adopted", is_owned).await;
    cluster
        .merge::<Pod>("a", "orphan", json!({"metadata": {"labels": {"app": "y"}}}))
        .await;
    cluster
        .until("released and replaced", |cluster| {
            !is_owned(cluster) && cluster.all::<Pod>().len() == 2
        })
        .await;
    assert_eq!(cluster.all::<Pod>().len(), 2);
}

#[tokio::test]
async fn a_refused_pod_becomes_a_condition_until_it_is_made() {
    let cluster = Cluster::start(WORKLOADS);
    cluster.run_pods();
    cluster.api.refuse(Box::new(|request| {
        let is_pod = request.method == kube_client::Method::Post && request.path.contains("/pods");
        is_pod.then(|| {
            let pods = apimachinery::GroupResource::new("", "pods");
            apimachinery::ApiError::forbidden(&pods, "x", "exceeded quota")
        })
    }));
    let controller = json!({"metadata": {"name": "rc"}, "spec": {"replicas": 2, "selector": {"app": "x"},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c"}]}}}});
    cluster
        .create::<ReplicationController>("a", controller)
        .await;
    let failure = |cluster: &Cluster| {
        let set = cluster
            .get::<ReplicationController>("a", "rc")
            .expect("it is there");
        condition(&set, "ReplicaFailure").cloned()
    };
    cluster
        .until("told", |cluster| failure(cluster).is_some())
        .await;
    let told = failure(&cluster).expect("told");
    assert_eq!(
        (&told["reason"], &told["status"]),
        (&json!("FailedCreate"), &json!("True"))
    );
    cluster.api.refuse_nothing();
    cluster
        .until("made", |cluster| {
            failure(cluster).is_none() && cluster.all::<Pod>().len() == 2
        })
        .await;
}

//! Jobs against an API in memory; the tests end the pods.

mod support;

use apimachinery::Object;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube_client::DeleteOptions;
use serde_json::{Value, json};
use support::{Cluster, condition, number};

fn job(spec: Value) -> Value {
    let mut job = json!({"metadata": {"name": "j"}, "spec": {
        "parallelism": 2, "completions": 3, "backoffLimit": 6,
        "selector": {"matchLabels": {"job": "j"}},
        "template": {"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
    }});
    apimachinery::merge_patch(&mut job["spec"], &spec);
    job
}

fn living(cluster: &Cluster) -> Vec<Object> {
    let mut pods = cluster.all::<Pod>();
    pods.retain(|pod| pod.text_at(&["status", "phase"]).is_empty() && !pod.is_being_deleted());
    pods
}

async fn end(cluster: &Cluster, pod: &Object, phase: &str, exit_code: i32) {
    let status = json!({"name": "c", "state": {"terminated": {"exitCode": exit_code, "finishedAt": "2020-01-01T00:00:00Z"}}});
    cluster
        .merge_status::<Pod>(
            "a",
            pod.name(),
            json!({"status": {"phase": phase, "containerStatuses": [status]}}),
        )
        .await;
}

fn is(cluster: &Cluster, kind: &str, reason: &str) -> bool {
    let job = cluster.get::<Job>("a", "j").unwrap_or_default();
    condition(&job, kind)
        .is_some_and(|condition| condition["status"] == "True" && condition["reason"] == reason)
}

#[tokio::test]
async fn a_job_runs_its_completions_and_counts_each_pod_once() {
    let cluster = Cluster::start(&["job-controller"]);
    cluster.create::<Job>("a", job(json!({}))).await;
    for round in 0..3 {
        let wanted = (3 - round).min(2);
        cluster
            .until("pods", |cluster| living(cluster).len() == wanted)
            .await;
        end(&cluster, &living(&cluster)[0], "Succeeded", 0).await;
    }
    cluster
        .until("complete", |cluster| {
            is(cluster, "Complete", "CompletionsReached")
        })
        .await;
    let job = cluster.get::<Job>("a", "j").expect("a job");
    assert_eq!(number(&job, &["status", "succeeded"]), 3);
    assert_eq!(number(&job, &["status", "active"]), 0);
    cluster
        .until("no pod is tracked", |cluster| {
            cluster
                .all::<Pod>()
                .iter()
                .all(|pod| pod.finalizers().is_empty())
        })
        .await;
}

#[tokio::test]
async fn a_job_fails_when_its_limit_is_passed() {
    let cluster = Cluster::start(&["job-controller"]);
    cluster
        .create::<Job>("a", job(json!({"backoffLimit": 1, "parallelism": 1})))
        .await;
    for _ in 0..2 {
        cluster
            .until("a pod", |cluster| living(cluster).len() == 1)
            .await;
        end(&cluster, &living(&cluster)[0], "Failed", 1).await;
    }
    cluster
        .until("failed", |cluster| {
            is(cluster, "Failed", "BackoffLimitExceeded")
        })
        .await;
    assert_eq!(
        number(
            &cluster.get::<Job>("a", "j").expect("a job"),
            &["status", "failed"]
        ),
        2
    );
}

#[tokio::test]
async fn an_indexed_job_fails_by_index_and_says_which() {
    let cluster = Cluster::start(&["job-controller"]);
    let spec = json!({"completionMode": "Indexed", "parallelism": 3, "backoffLimitPerIndex": 0, "backoffLimit": 100});
    cluster.create::<Job>("a", job(spec)).await;
    cluster
        .until("three pods", |cluster| living(cluster).len() == 3)
        .await;
    let index = |pod: &Object| {
        pod.annotation("batch.kubernetes.io/job-completion-index")
            .unwrap_or_default()
            .to_owned()
    };
    let mut pods = living(&cluster);
    pods.sort_by_key(index);
    assert_eq!(pods.iter().map(index).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(pods[1].text_at(&["spec", "hostname"]), "j-1");
    end(&cluster, &pods[0], "Succeeded", 0).await;
    end(&cluster, &pods[1], "Failed", 3).await;
    end(&cluster, &pods[2], "Succeeded", 0).await;
    cluster
        .until("failed", |cluster| is(cluster, "Failed", "FailedIndexes"))
        .await;
    let job = cluster.get::<Job>("a", "j").expect("a job");
    assert_eq!(job.text_at(&["status", "completedIndexes"]), "0,2");
    assert_eq!(job.text_at(&["status", "failedIndexes"]), "1");
}

#[tokio::test]
async fn a_failure_policy_ends_the_job_at_once() {
    let cluster = Cluster::start(&["job-controller"]);
    let rule = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}});
    cluster
        .create::<Job>("a", job(json!({"podFailurePolicy": {"rules": [rule]}})))
        .await;
    cluster
        .until("two pods", |cluster| living(cluster).len() == 2)
        .await;
    let pod = living(&cluster)[0].clone();
    end(&cluster, &pod, "Failed", 42).await;
    cluster
        .until("failed", |cluster| {
            is(cluster, "Failed", "PodFailurePolicy")
        })
        .await;
    let job = cluster.get::<Job>("a", "j").expect("a job");
    let message = format!(
        "Container c for pod a/{} failed with exit code 42 matching FailJob rule at index 0",
        pod.name()
    );
    assert_eq!(
        condition(&job, "Failed").expect("a condition")["message"],
        message
    );
    assert!(living(&cluster).is_empty());
}

#[tokio::test]
async fn a_success_policy_ends_the_job_early() {
    let cluster = Cluster::start(&["job-controller"]);
    let spec = json!({"completionMode": "Indexed", "parallelism": 3, "successPolicy": {"rules": [{"succeededIndexes": "0"}]}});
    cluster.create::<Job>("a", job(spec)).await;
    cluster
        .until("three pods", |cluster| living(cluster).len() == 3)
        .await;
    let first = living(&cluster)
        .into_iter()
        .find(|pod| pod.annotation("batch.kubernetes.io/job-completion-index") == Some("0"));
    end(&cluster, &first.expect("the first index"), "Succeeded", 0).await;
    cluster
        .until("complete", |cluster| {
            is(cluster, "Complete", "SuccessPolicy")
        })
        .await;
}

#[tokio::test]
async fn a_suspended_job_has_no_pods_until_it_is_resumed() {
    let cluster = Cluster::start(&["job-controller"]);
    cluster.create::<Job>("a", job(json!({}))).await;
    cluster
        .until("pods", |cluster| living(cluster).len() == 2)
        .await;
    cluster
        .merge::<Job>("a", "j", json!({"spec": {"suspend": true}}))
        .await;
    cluster
        .until("none", |cluster| {
            cluster.all::<Pod>().is_empty() && is(cluster, "Suspended", "JobSuspended")
        })
        .await;
    cluster
        .merge::<Job>("a", "j", json!({"spec": {"suspend": false}}))
        .await;
    cluster
        .until("pods again", |cluster| living(cluster).len() == 2)
        .await;
}

#[tokio::test]
async fn pods_of_a_deleted_job_can_go() {
    let cluster = Cluster::start(&["job-controller", "garbage-collector-controller"]);
    cluster.create::<Job>("a", job(json!({}))).await;
    cluster
        .until("pods", |cluster| living(cluster).len() == 2)
        .await;
    cluster
        .delete::<Job>("a", "j", DeleteOptions::default())
        .await;
    cluster
        .until("gone", |cluster| cluster.all::<Pod>().is_empty())
        .await;
}

//! What controllers and the node make of workloads: jobs, daemon sets, stages of a pod, static pods.

use std::fs;

use serde_json::{Value, json};

use crate::Test;
use crate::support::images::BUSYBOX;
use crate::support::objects::{idle, script, with};
use crate::support::{Space, eventually, shared};

pub(crate) const TESTS: &[Test] = &[
    ("a_job_runs_to_completion_in_parallel", job),
    ("a_failing_job_stops_at_its_limit", failing_job),
    ("a_daemon_set_has_a_pod_on_each_node", daemon_set),
    ("a_stateful_set_names_its_pods_in_order", stateful_set),
    ("init_containers_run_one_after_the_other", init_containers),
    ("a_sidecar_starts_first_and_ends_last", sidecar),
    ("a_static_pod_runs_and_is_mirrored", static_pod),
    ("a_deleted_namespace_takes_everything_along", namespace),
    ("resources_that_no_node_has_hold_a_pod", unschedulable),
    ("an_image_that_is_nowhere_is_told", missing_image),
];

/// The template of a pod: what a workload repeats.
fn template(pod: &Value) -> Value {
    json!({"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]})
}

fn job_of(name: &str, text: &str, spec: &Value) -> Value {
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": template(&script(name, text))},
    });
    with(job, &json!({"spec": spec}))
}

fn job() {
    let space = Space::new("job");
    space.kubectl.create(&job_of(
        "work",
        "echo done",
        &json!({"completions": 3, "parallelism": 2}),
    ));
    space.kubectl.ok(&[
        "wait",
        "--for=condition=Complete",
        "job/work",
        "--timeout=60s",
    ]);
    let status = space.kubectl.get("job", "work")["status"].clone();
    assert_eq!(status["succeeded"], 3, "{status}");
    assert!(status["completionTime"].is_string(), "{status}");
    assert_eq!(
        space.kubectl.ok(&["logs", "-l", "job-name=work"]),
        "done\ndone\ndone\n"
    );
}

fn failing_job() {
    let space = Space::new("failing-job");
    space
        .kubectl
        .create(&job_of("work", "exit 3", &json!({"backoffLimit": 0})));
    space.kubectl.ok(&[
        "wait",
        "--for=condition=Failed",
        "job/work",
        "--timeout=60s",
    ]);
    let status = space.kubectl.get("job", "work")["status"].clone();
    assert_eq!(status["failed"], 1, "{status}");
    let conditions = status["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|one| one["reason"] == "BackoffLimitExceeded"),
        "{status}"
    );
}

fn daemon_set() {
    let space = Space::new("daemon-set");
    let pod = with(
        idle("daemon"),
        &json!({"spec": {"restartPolicy": "Always"}}),
    );
    space.kubectl.create(&json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "daemon"},
        "spec": {"selector": {"matchLabels": {"app": "daemon"}}, "template": template(&pod)},
    }));
    space
        .kubectl
        .ok(&["rollout", "status", "daemonset/daemon", "--timeout=60s"]);
    let pods = space.kubectl.list("pods", "app=daemon");
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0]["spec"]["nodeName"], "node-shared");
    assert_eq!(
        space.kubectl.get("daemonset", "daemon")["status"]["numberReady"],
        1
    );
}

fn stateful_set() {
    let space = Space::new("stateful-set");
    let pod = with(
        idle("member"),
        &json!({"spec": {"restartPolicy": "Always"}}),
    );
    space.kubectl.create(&json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "member"},
        "spec": {"serviceName": "member", "replicas": 2, "selector": {"matchLabels": {"app": "member"}}, "template": template(&pod)},
    }));
    space
        .kubectl
        .ok(&["rollout", "status", "statefulset/member", "--timeout=60s"]);
    let created = |name: &str| {
        space.kubectl.get("pod", name)["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(created("member-0") <= created("member-1"));
    assert_eq!(space.kubectl.sh("member-1", "hostname").trim(), "member-1");
}

fn init_containers() {
    let space = Space::new("init-containers");
    let init = |name: &str, text: &str| json!({"name": name, "image": BUSYBOX, "command": ["sh", "-c", text], "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let mut pod = with(
        script("staged", "cat /v/order"),
        &json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
    );
    pod["spec"]["initContainers"] = json!([
        init("one", "sleep 0.3; echo one >> /v/order"),
        init("two", "echo two >> /v/order")
    ]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    assert_eq!(space.kubectl.run_pod(&pod), "one\ntwo\n");
    let states = space.kubectl.get("pod", "staged")["status"]["initContainerStatuses"].clone();
    assert!(
        states
            .as_array()
            .unwrap()
            .iter()
            .all(|state| state["state"]["terminated"]["exitCode"] == 0),
        "{states}"
    );
    let mut failing = script("failing", "echo never");
    failing["spec"]["initContainers"] = json!([init("no", "exit 4")]);
    failing["spec"]["initContainers"][0]
        .as_object_mut()
        .unwrap()
        .remove("volumeMounts");
    space.kubectl.create(&failing);
    let pod = space.kubectl.until("pod", "failing", "failed", |pod| {
        pod["status"]["phase"] == "Failed"
    });
    assert_eq!(
        pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"],
        4
    );
}

fn sidecar() {
    let space = Space::new("sidecar");
    let text = "trap 'echo over > /v/sidecar-ended; exit 0' TERM; touch /v/up; while :; do sleep 1000 & wait; done";
    let mut pod = with(
        script("pair", "test -e /v/up && echo sidecar was up"),
        &json!({"spec": {
        "terminationGracePeriodSeconds": 20, "volumes": [{"name": "v", "emptyDir": {}}]}}),
    );
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    pod["spec"]["initContainers"] = json!([{"name": "beside", "image": BUSYBOX, "restartPolicy": "Always",
        "command": ["sh", "-c", text], "volumeMounts": mounts,
        "startupProbe": {"exec": {"command": ["test", "-e", "/v/up"]}, "periodSeconds": 1}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = mounts;
    assert_eq!(space.kubectl.run_pod(&pod), "sidecar was up\n");
    // The pod is over although a sidecar never ends by itself.
    let pod = space.kubectl.get("pod", "pair");
    assert_eq!(pod["status"]["phase"], "Succeeded");
    let beside = &pod["status"]["initContainerStatuses"][0]["state"]["terminated"];
    let main = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert!(
        beside["finishedAt"].as_str() >= main["finishedAt"].as_str(),
        "{pod}"
    );
}

fn static_pod() {
    let kubectl = shared().kubectl().in_namespace("default");
    let manifest = shared().data_dir.join("agent/pod-manifests/fixed.yaml");
    fs::write(
        &manifest,
        serde_json::to_vec(&with(
            idle("fixed"),
            &json!({"spec": {"restartPolicy": "Always"}}),
        ))
        .unwrap(),
    )
    .unwrap();
    let pod = kubectl.wait_ready("fixed-node-shared");
    assert!(
        pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string(),
        "{}",
        pod["metadata"]
    );
    assert_eq!(kubectl.sh("fixed-node-shared", "echo here"), "here\n");
    fs::remove_file(manifest).unwrap();
    eventually("the mirror goes", || {
        kubectl
            .find("pod", "fixed-node-shared")
            .is_none()
            .then_some(())
    });
}

fn namespace() {
    let space = Space::new("namespace");
    space.kubectl.start_pod(&idle("inside"));
    space
        .kubectl
        .create(&crate::support::objects::config_map("inside", "a", "b"));
    space
        .kubectl
        .ok(&["delete", "namespace", "namespace", "--timeout=60s"]);
    assert!(space.kubectl.list("pods,configmaps", "").is_empty());
    assert!(space.kubectl.find("namespace", "namespace").is_none());
}

fn unschedulable() {
    let space = Space::new("unschedulable");
    let pod = crate::support::objects::with_container(
        idle("huge"),
        &json!({"resources": {"requests": {"cpu": "9000"}}}),
    );
    space.kubectl.create(&pod);
    let pod = space
        .kubectl
        .until("pod", "huge", "told why it waits", |pod| {
            pod["status"]["conditions"].is_array()
        });
    let condition = &pod["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["reason"]),
        (&json!("PodScheduled"), &json!("Unschedulable"))
    );
    let message = condition["message"].as_str().unwrap();
    assert!(
        message.starts_with("0/1 nodes are available: 1 Insufficient cpu."),
        "{message}"
    );
}

fn missing_image() {
    let space = Space::new("missing-image");
    let policy = json!({"image": "combo.local/nowhere:1", "imagePullPolicy": "Never"});
    space
        .kubectl
        .create(&crate::support::objects::with_container(
            idle("missing"),
            &policy,
        ));
    let pod = space.kubectl.until("pod", "missing", "told", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImageNeverPull"
    });
    let message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
        .as_str()
        .unwrap();
    assert!(message.contains("combo.local/nowhere:1"), "{message}");
}

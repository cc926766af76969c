//! Nodes without a server: one that loses its power and finds none when it is back, and those that are cut off.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Test;
use crate::support::kubectl::is_ready;
use crate::support::nodes::LINK;
use crate::support::objects::{deployment, script, service, web, with};
use crate::support::{Cluster, Kubectl, Node, Space, within};

pub(crate) const TESTS: &[Test] = &[
    (
        "pods_run_within_seconds_of_a_power_cut_without_a_server_and_stay_when_it_is_back",
        power_cut,
    ),
    (
        "a_node_that_is_cut_off_keeps_its_pods_with_autonomy_and_loses_them_without",
        partition,
    ),
];

/// From the agent's start until one pod reaches another.
const RUNNING_MAX: Duration = Duration::from_secs(5);
const BACK_MAX: Duration = Duration::from_secs(60);
/// So long what changed may wait to be written.
const WRITTEN_AFTER: Duration = Duration::from_secs(6);
/// A node that is silent for so long is lost, and its pods leave it after this.
const GRACE: &str = "20s";
const TOLERATED_SECONDS: u64 = 2;
/// From the cut until a pod is replaced.
const REPLACED_MAX: Duration = Duration::from_secs(60);
/// What the client says when it has the secret and was answered.
const TALKED: &str = "hidden web";

fn power_cut() {
    let cluster = Cluster::start("offline", &["--disable-agent"], &["edge"]);
    let space = Space::through(cluster.kubectl(), "offline");
    let (kubectl, edge) = (&space.kubectl, cluster.agent("edge"));
    run_pods(kubectl);
    within(BACK_MAX, "the client talks", || talked(edge, 0));
    std::thread::sleep(WRITTEN_AFTER);
    let before = uids(kubectl);
    cluster.server.end();
    edge.cut_power();
    edge.run();
    within(RUNNING_MAX, "the client talks again", || talked(edge, 1));
    cluster.server.run();
    within(BACK_MAX, "the server hears of it", || {
        let found = kubectl.find("pod", "client")?;
        let status = &found["status"]["containerStatuses"][0];
        (status["restartCount"] == 1 && status["ready"] == true).then_some(())
    });
    assert_eq!(uids(kubectl), before);
    assert_eq!(kubectl.get("pod", "job")["status"]["phase"], "Succeeded");
    assert_eq!(log_of(edge, "job", 1), None, "it was run again");
    drop(space);
    cluster.tear_down();
}

fn run_pods(kubectl: &Kubectl) {
    kubectl.create(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "hidden"},
    }));
    kubectl.create(&service("web", "web"));
    kubectl.create(&web("web"));
    let talk = "while :; do \
        a=$(nslookup web.$NS.svc.cluster.local | awk '/^Address/ {a=$NF} END {print a}'); \
        echo $(cat /secret/key) $(fetch http://$a:80/hostname 2>&1); sleep 0.2; done";
    let mut client = script("client", talk);
    client["spec"]["containers"][0]["env"] = json!([
        {"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]);
    client["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "s", "mountPath": "/secret"}]);
    let volumes = json!([{"name": "s", "secret": {"secretName": "s"}}]);
    kubectl.create(&with(
        client,
        &json!({"spec": {"restartPolicy": "Always", "volumes": volumes}}),
    ));
    let once = json!({"spec": {"restartPolicy": "OnFailure"}});
    kubectl.create(&with(script("job", "echo ran"), &once));
    kubectl.until("pod", "job", "it is done", |pod| {
        pod["status"]["phase"] == "Succeeded"
    });
    kubectl.wait_ready("web");
}

fn talked(node: &Node, attempt: u32) -> Option<()> {
    log_of(node, "client", attempt)?
        .contains(TALKED)
        .then_some(())
}

/// The log of a pod's container as the node has it.
fn log_of(node: &Node, pod: &str, attempt: u32) -> Option<String> {
    let folders = fs::read_dir(node.joined("logs/pods")).ok()?;
    let is_of_pod = |name: &str| name.split('_').nth(1) == Some(pod);
    let folder = folders
        .flatten()
        .find(|folder| is_of_pod(&folder.file_name().to_string_lossy()))?;
    fs::read_to_string(folder.path().join(format!("main/{attempt}.log"))).ok()
}

fn partition() {
    let flags = ["--node-monitor-grace-period", GRACE];
    let cluster = Cluster::start("partition", &flags, &["alone", "other"]);
    let space = Space::through(cluster.kubectl(), "partition");
    let kubectl = &space.kubectl;
    kubectl.ok(&["label", "node", "alone", "combo.io/autonomy=true"]);
    let nodes = ["alone", "other"];
    for node in nodes {
        kubectl.create(&preferring(node));
        kubectl.ok(&[
            "rollout",
            "status",
            &format!("deployment/{node}"),
            "--timeout=60s",
        ]);
    }
    let before = nodes.map(|node| only_pod(kubectl, node));
    assert_eq!(
        before.clone().map(|pod| pod["spec"]["nodeName"].clone()),
        nodes
    );
    nodes.iter().for_each(|node| cut_off(cluster.agent(node)));
    within(REPLACED_MAX, "the pod without autonomy is replaced", || {
        let pods = kubectl.list("pods", "app=other");
        let is_here = |pod: &Value| pod["spec"]["nodeName"] == "server" && is_ready(pod);
        let is_leaving = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
        let is_replaced = pods.iter().any(is_here) && pods.iter().any(is_leaving);
        (is_replaced && pods.len() == 2).then_some(())
    });
    let kept = only_pod(kubectl, "alone");
    assert_eq!(kept["metadata"]["uid"], before[0]["metadata"]["uid"]);
    assert!(kept["metadata"]["deletionTimestamp"].is_null(), "{kept}");
    assert_eq!(kept["status"]["phase"], "Running");
    assert!(
        !is_ready(&kept),
        "no traffic is sent to what is not reached"
    );
    let unreachable = "node.kubernetes.io/unreachable";
    assert_eq!(
        taints(kubectl, "alone"),
        [format!("{unreachable}:NoSchedule")]
    );
    let both = ["NoExecute", "NoSchedule"].map(|effect| format!("{unreachable}:{effect}"));
    assert_eq!(taints(kubectl, "other"), both);
    for node in nodes {
        cluster.agent(node).place.ok("nft delete table inet wall");
    }
    within(BACK_MAX, "all is well again", || {
        let pods = nodes.map(|node| kubectl.list("pods", &format!("app={node}")));
        let is_well = |pods: &Vec<Value>| pods.len() == 1 && is_ready(&pods[0]);
        let no_taints = nodes.iter().all(|node| taints(kubectl, node).is_empty());
        (pods.iter().all(is_well) && no_taints).then_some(())
    });
    let [alone, other] = nodes.map(|node| only_pod(kubectl, node));
    assert_eq!(alone["metadata"]["uid"], before[0]["metadata"]["uid"]);
    let status = &alone["status"]["containerStatuses"][0];
    let status_before = &before[0]["status"]["containerStatuses"][0];
    assert_eq!(status["containerID"], status_before["containerID"]);
    assert_ne!(other["metadata"]["uid"], before[1]["metadata"]["uid"]);
    let gone = before[1]["metadata"]["name"].as_str().unwrap();
    within(BACK_MAX, "what was replaced is taken away", || {
        let logs = fs::read_dir(cluster.agent("other").joined("logs/pods")).ok()?;
        let is_gone = |name: &str| name.split('_').nth(1) != Some(gone);
        logs.flatten()
            .all(|folder| is_gone(&folder.file_name().to_string_lossy()))
            .then_some(())
    });
    drop(space);
    cluster.tear_down();
}

/// One pod that would rather be on this node, and does not wait for long on one that is lost.
fn preferring(node: &str) -> Value {
    let rule = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
    let preferred = json!([{"weight": 100, "preference": {"matchExpressions": [rule]}}]);
    let toleration = json!({
        "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": TOLERATED_SECONDS,
    });
    with(
        deployment(node, 1),
        &json!({"spec": {"template": {"spec": {
            "tolerations": [toleration],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}},
        }}}}),
    )
}

fn only_pod(kubectl: &Kubectl, app: &str) -> Value {
    let pods = kubectl.list("pods", &format!("app={app}"));
    assert_eq!(pods.len(), 1, "{pods:?}");
    pods[0].clone()
}

/// Nothing comes in and nothing goes out.
fn cut_off(node: &Node) {
    node.place.ok(&format!(
        "nft add table inet wall
        nft add chain inet wall input '{{ type filter hook input priority -300; }}'
        nft add chain inet wall output '{{ type filter hook output priority -300; }}'
        nft add rule inet wall input iifname {LINK} drop
        nft add rule inet wall output oifname {LINK} drop"
    ));
}

fn taints(kubectl: &Kubectl, node: &str) -> Vec<String> {
    let node = kubectl.get("node", node);
    let taints = node["spec"]["taints"].as_array().cloned();
    let mut taints: Vec<String> = taints
        .iter()
        .flatten()
        .map(|taint| {
            format!(
                "{}:{}",
                taint["key"].as_str().unwrap(),
                taint["effect"].as_str().unwrap()
            )
        })
        .collect();
    taints.sort();
    taints
}

fn uids(kubectl: &Kubectl) -> Vec<Value> {
    let pods = kubectl.list("pods", "");
    pods.iter()
        .map(|pod| pod["metadata"]["uid"].clone())
        .collect()
}

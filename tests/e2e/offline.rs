//! A node that loses its power and finds no server when it is back.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Test;
use crate::support::objects::{script, service, web, with};
use crate::support::{Cluster, Kubectl, Node, Space, within};

pub(crate) const TESTS: &[Test] = &[(
    "pods_run_within_seconds_of_a_power_cut_without_a_server_and_stay_when_it_is_back",
    power_cut,
)];

/// From the agent's start until one pod reaches another.
const RUNNING_MAX: Duration = Duration::from_secs(5);
const BACK_MAX: Duration = Duration::from_secs(60);
/// So long what changed may wait to be written.
const WRITTEN_AFTER: Duration = Duration::from_secs(6);
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

fn uids(kubectl: &Kubectl) -> Vec<Value> {
    let pods = kubectl.list("pods", "");
    pods.iter()
        .map(|pod| pod["metadata"]["uid"].clone())
        .collect()
}

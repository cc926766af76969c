//! Several nodes: they join, their pods reach each other, and a server reaches nodes that nobody can connect to.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Test;
use crate::services::fetch_from_host;
use crate::support::kubectl::Follower;
use crate::support::nodes::LINK;
use crate::support::objects::{idle, script, service, with, with_container};
use crate::support::server::work_dir;
use crate::support::{Cluster, Kubectl, Node, Space, eventually, shared};

pub(crate) const TESTS: &[Test] = &[
    (
        "nodes_join_with_the_token_and_are_ready_within_seconds",
        joined,
    ),
    ("a_wrong_token_is_refused", wrong_token),
    ("a_token_of_another_cluster_is_refused", foreign_token),
    ("a_node_name_belongs_to_its_key", taken_name),
    ("pods_of_all_nodes_reach_each_other_over_vxlan", vxlan),
    ("pods_of_all_nodes_reach_each_other_over_host_gw", host_gw),
    ("a_node_that_nobody_can_connect_to_is_served", walled),
    (
        "a_server_without_a_node_reaches_such_a_node_too",
        walled_without_node,
    ),
    ("a_node_reads_and_changes_only_its_own", own_things),
];

/// How long nodes may take to join and be Ready on a busy machine.
const JOINING_MAX: Duration = Duration::from_secs(20);
/// What the wall must hold for.
const WALL_PATIENCE: Duration = Duration::from_secs(1);
const KUBELET_PORT: u16 = 10_250;
/// The agent behind a wall.
const WALLED: &str = "walled";
const TRIES: usize = 6;

static VXLAN: OnceLock<Cluster> = OnceLock::new();
static HOST_GW: OnceLock<Cluster> = OnceLock::new();

fn over_vxlan() -> &'static Cluster {
    VXLAN.get_or_init(|| Cluster::start("vxlan", &[], &["one", "two", WALLED]))
}

fn over_host_gw() -> &'static Cluster {
    let flags = ["--disable-agent", "--flannel-backend", "host-gw"];
    HOST_GW.get_or_init(|| Cluster::start("host-gw", &flags, &["one", "two", "three", WALLED]))
}

/// Ends the clusters that tests wanted.
pub(crate) fn tear_down() {
    let started = [&VXLAN, &HOST_GW].into_iter().filter_map(OnceLock::get);
    started.for_each(Cluster::tear_down);
}

fn joined() {
    let cluster = over_vxlan();
    assert!(cluster.joining < JOINING_MAX, "{:?}", cluster.joining);
    let mut ranges = BTreeSet::new();
    for node in cluster.nodes() {
        let found = cluster.kubectl().get("node", &node.name);
        let address = json!({"type": "InternalIP", "address": node.place.address});
        let addresses = found["status"]["addresses"].as_array().unwrap();
        assert!(addresses.contains(&address), "{}: {addresses:?}", node.name);
        let role = &found["metadata"]["labels"]["node-role.kubernetes.io/control-plane"];
        assert_eq!(role.is_string(), node.name == "server", "{found}");
        ranges.insert(found["spec"]["podCIDR"].as_str().unwrap().to_owned());
    }
    assert_eq!(ranges.len(), cluster.nodes().count(), "{ranges:?}");
}

/// Why an agent with this token and name is not let in.
fn refusal(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.try_to_join(arguments);
    assert!(
        output.status.code().is_some_and(|code| code > 0),
        "{output:?}"
    );
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn token_of(data_dir: &std::path::Path) -> String {
    let token = std::fs::read_to_string(data_dir.join("server/agent-token"));
    token.expect("a token file").trim().to_owned()
}

fn wrong_token() {
    let cluster = over_vxlan();
    let right = token_of(&cluster.server.data_dir);
    let (begin, _password) = right.rsplit_once(':').unwrap();
    for wrong in [format!("{begin}:wrong"), "wrong".to_owned()] {
        let said = refusal(cluster, &["--node-name", "guest", "--token", &wrong]);
        let text = "the token is not valid here; look at server/agent-token";
        assert!(said.contains(text), "{said}");
    }
    let cut = &right[..30];
    let said = refusal(cluster, &["--node-name", "guest", "--token", cut]);
    assert!(said.contains("it was cut when it was copied"), "{said}");
    assert!(!said.contains(cut), "a token is not shown: {said}");
    let said = refusal(cluster, &["--node-name", "guest"]);
    assert!(said.contains("--token-file"), "{said}");
    assert_eq!(cluster.kubectl().find("node", "guest"), None);
}

fn foreign_token() {
    let cluster = over_vxlan();
    let foreign = token_of(&shared().data_dir);
    let said = refusal(cluster, &["--node-name", "guest", "--token", &foreign]);
    assert!(said.contains("the token is of another cluster"), "{said}");
    assert_eq!(cluster.kubectl().find("node", "guest"), None);
}

fn taken_name() {
    let cluster = over_vxlan();
    let token = token_of(&cluster.server.data_dir);
    let before = cluster.kubectl().get("node", "two")["metadata"]["uid"].clone();
    let thief = ["--node-name", "two", "--token", &token];
    let said = refusal(cluster, &thief);
    let text = "the name \"two\" belongs to a node with another key";
    assert!(said.contains(text), "{said}");
    let said = refusal(cluster, &[&thief[..], &["--replace"]].concat());
    let text = "the node \"two\" is Ready with another key and cannot be replaced while it lives";
    assert!(said.contains(text), "{said}");
    let said = refusal(cluster, &["--node-name", "server", "--token", &token]);
    assert!(
        said.contains("belongs to a node with another key"),
        "{said}"
    );
    let after = cluster.kubectl().get("node", "two")["metadata"]["uid"].clone();
    assert_eq!(before, after);
}

fn vxlan() {
    reach(over_vxlan());
}

fn host_gw() {
    reach(over_host_gw());
}

/// A pod of the web server on each node.
pub(crate) struct Served {
    node: String,
    pod: String,
    address: String,
}

fn reach(cluster: &Cluster) {
    let space = Space::through(cluster.kubectl(), "reach");
    let kubectl = &space.kubectl;
    kubectl.create(&daemon_set());
    let both = json!({"spec": {"type": "NodePort", "ports": [
        {"name": "tcp", "port": 80, "targetPort": 8080},
        {"name": "udp", "port": 80, "targetPort": 8080, "protocol": "UDP"},
    ]}});
    kubectl.create(&with(service("net", "net"), &both));
    kubectl.ok(&["rollout", "status", "daemonset/net", "--timeout=60s"]);
    let pods = served(kubectl);
    assert_eq!(pods.len(), cluster.nodes().count());
    every_direction(kubectl, &pods);
    services_from_pods(kubectl, &pods);
    services_from_nodes(cluster, kubectl, &pods);
}

pub(crate) fn daemon_set() -> Value {
    let pod = script("net", "exec webserver");
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "net"},
        "spec": {
            "selector": {"matchLabels": {"app": "net"}},
            "template": {
                "metadata": {"labels": {"app": "net"}},
                "spec": with(pod, &json!({"spec": {"restartPolicy": "Always"}}))["spec"],
            },
        },
    })
}

pub(crate) fn served(kubectl: &Kubectl) -> Vec<Served> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pods = kubectl.list("pods", "app=net");
    let pods = pods.iter().map(|pod| Served {
        node: text(&pod["spec"]["nodeName"]),
        pod: text(&pod["metadata"]["name"]),
        address: text(&pod["status"]["podIP"]),
    });
    pods.collect()
}

/// What a pod is answered at these addresses, in their order, an empty line for no answer.
fn answers(kubectl: &Kubectl, from: &str, urls: &[String]) -> Vec<String> {
    let script = format!(
        "for url in {}; do fetch $url 2>/dev/null; echo; done",
        urls.join(" ")
    );
    kubectl
        .sh(from, &script)
        .lines()
        .map(str::to_owned)
        .collect()
}

pub(crate) fn every_direction(kubectl: &Kubectl, pods: &[Served]) {
    for from in pods {
        let wanted: Vec<&str> = pods.iter().map(|pod| pod.pod.as_str()).collect();
        for scheme in ["http", "udp"] {
            let url = |to: &Served| format!("{scheme}://{}:8080/hostname", to.address);
            let urls: Vec<String> = pods.iter().map(url).collect();
            eventually(&format!("{scheme} from {}", from.node), || {
                (answers(kubectl, &from.pod, &urls) == wanted).then_some(())
            });
            // What was reached once stays so.
            assert_eq!(answers(kubectl, &from.pod, &urls), wanted, "{}", from.node);
        }
    }
}

fn services_from_pods(kubectl: &Kubectl, pods: &[Served]) {
    let address = kubectl.get("service", "net")["spec"]["clusterIP"].clone();
    let hosts = [
        address.as_str().unwrap(),
        "net",
        "net.reach.svc.cluster.local",
    ];
    for from in pods {
        for url in hosts
            .iter()
            .flat_map(|host| ["http", "udp"].map(|scheme| format!("{scheme}://{host}/hostname")))
        {
            let urls = vec![url.clone(); TRIES];
            let mut seen = BTreeSet::new();
            eventually(&format!("{url} from {} is every pod", from.node), || {
                seen.extend(answers(kubectl, &from.pod, &urls));
                pods.iter().all(|pod| seen.contains(&pod.pod)).then_some(())
            });
            let all = answers(kubectl, &from.pod, &urls);
            let is_pod = |answer: &String| pods.iter().any(|pod| pod.pod == *answer);
            assert!(all.iter().all(is_pod), "{url} from {}: {all:?}", from.node);
        }
    }
}

fn services_from_nodes(cluster: &Cluster, kubectl: &Kubectl, pods: &[Served]) {
    let spec = kubectl.get("service", "net")["spec"].clone();
    let port = u16::try_from(spec["ports"][0]["nodePort"].as_u64().unwrap()).unwrap();
    let address = spec["clusterIP"].as_str().unwrap();
    let open = cluster.nodes().filter(|node| node.name != WALLED);
    let targets: Vec<(&str, u16)> = open
        .map(|node| (node.place.address.as_str(), port))
        .chain([(address, 80)])
        .collect();
    for from in cluster.nodes() {
        for &(address, port) in &targets {
            let what = format!("{address}:{port} from the node {}", from.name);
            let ask = || {
                let answer = from
                    .place
                    .inside(|| fetch_from_host(address, port, "/hostname"));
                answer.unwrap_or_default()
            };
            let mut seen = BTreeSet::new();
            eventually(&format!("{what} is every pod"), || {
                seen.insert(ask());
                pods.iter().all(|pod| seen.contains(&pod.pod)).then_some(())
            });
            for _again in 0..TRIES {
                let answer = ask();
                let is_pod = pods.iter().any(|pod| pod.pod == answer);
                assert!(is_pod, "{what}: {answer:?}");
            }
        }
    }
}

fn walled() {
    reaches_behind_a_wall(over_vxlan());
}

fn walled_without_node() {
    reaches_behind_a_wall(over_host_gw());
}

fn reaches_behind_a_wall(cluster: &Cluster) {
    let node = cluster.agent(WALLED);
    build_wall(cluster, node);
    let space = Space::through(cluster.kubectl(), "walled");
    let kubectl = &space.kubectl;
    let pod = script("web", "echo begun; exec webserver");
    let pod = with(pod, &json!({"spec": {"nodeName": node.name}}));
    kubectl.start_pod(&with(pod, &json!({"metadata": {"labels": {"app": "web"}}})));
    kubectl.create(&service("web", "web"));
    assert!(kubectl.logs("web").starts_with("begun\n"));
    // As webhooks are called: the server itself talks with a Service, and with a pod.
    for target in ["services/web", "pods/web:8080"] {
        let path = format!("/api/v1/namespaces/walled/{target}/proxy/hostname");
        eventually(&format!("{target} answers the server"), || {
            let answer = kubectl.run(&["get", "--raw", &path]);
            (answer.stdout.trim_ascii() == b"web").then_some(())
        });
    }
    assert_eq!(kubectl.sh("web", "hostname"), "web\n");
    let echoed = kubectl.run_with_input(&["exec", "-i", "web", "--", "cat"], &vec![b'x'; 1 << 20]);
    assert_eq!(echoed.stdout.len(), 1 << 20, "{:?}", echoed.status);
    let mut following = Follower::new(kubectl.spawn(&["logs", "-f", "web"]));
    let forwarding = Follower::new(kubectl.spawn(&["port-forward", "pod/web", ":8080"]));
    let port = forwarded_port(&forwarding);
    for _several_connections in 0..3 {
        let place = &cluster.server.place;
        let answer = place.inside(|| fetch_from_host("127.0.0.1", port, "/hostname"));
        assert_eq!(answer.as_deref(), Some("web"), "{}", forwarding.seen());
    }
    following.wait_for("asked for /hostname");
    kubectl.ok(&["delete", "pod", "web", "--wait=false"]);
    assert_eq!(following.exit_code(), Some(0));
    build_wall(cluster, node);
}

/// Nothing connects to a node from outside any more; that it holds is looked at.
fn build_wall(cluster: &Cluster, node: &Node) {
    node.place.ok(&format!(
        "nft add table inet wall
        nft add chain inet wall input '{{ type filter hook input priority -300; }}'
        nft flush chain inet wall input
        nft add rule inet wall input iifname {LINK} tcp flags '& (syn | ack) == syn' drop"
    ));
    let is_reached = |node: &Node| {
        let address = SocketAddr::new(node.place.address.parse().unwrap(), KUBELET_PORT);
        let connect = || TcpStream::connect_timeout(&address, WALL_PATIENCE).is_ok();
        cluster.server.place.inside(connect)
    };
    assert!(!is_reached(node), "the wall holds");
    assert!(is_reached(cluster.agent("one")), "the others are reached");
}

fn forwarded_port(forwarding: &Follower) -> u16 {
    forwarding.wait_for("Forwarding from 127.0.0.1:");
    let seen = forwarding.seen();
    let rest = seen.split("127.0.0.1:").nth(1);
    let port = rest.and_then(|rest| rest.split_whitespace().next());
    port.unwrap().parse().unwrap()
}

/// kubectl with what a node keeps, run on that node.
fn as_node(cluster: &Cluster, node: &Node) -> Kubectl {
    let path = |file: &str| node.joined(file);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "node",
        "clusters": [{"name": "c", "cluster": {
            "server": cluster.url(), "certificate-authority": path("server-ca.crt"),
        }}],
        "users": [{"name": "u", "user": {
            "client-certificate": path("client-kubelet.crt"), "client-key": path("node.key"),
        }}],
        "contexts": [{"name": "node", "context": {"cluster": "c", "user": "u"}}],
    });
    let file = work_dir().join(format!("{}-{}.kubeconfig", cluster.name, node.name));
    std::fs::write(&file, config.to_string()).unwrap();
    node.place.kubectl(&file)
}

fn own_things() {
    let cluster = over_vxlan();
    let space = Space::through(cluster.kubectl(), "own");
    for node in ["one", "two"] {
        let value = format!("--from-literal=key=of-{node}");
        space
            .kubectl
            .ok(&["create", "secret", "generic", node, &value]);
        let pod = with(idle(node), &json!({"spec": {"nodeName": node}}));
        let variable = json!({"envFrom": [{"secretRef": {"name": node}}]});
        space.kubectl.start_pod(&with_container(pod, &variable));
    }
    let node = as_node(cluster, cluster.agent("one"));
    let who = node.ok(&[
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
    ]);
    assert_eq!(who, "system:node:one");
    let refused = |arguments: &[&str]| {
        let said = node.in_namespace(&space.name).fails(arguments);
        let is_forbidden = said.to_lowercase().contains("forbidden");
        assert!(is_forbidden, "{arguments:?}: {said}");
    };
    node.in_namespace(&space.name).ok(&["get", "secret", "one"]);
    refused(&["get", "secret", "two"]);
    refused(&["get", "secrets"]);
    refused(&["get", "secret", "-n", "kube-system", "two.node-key"]);
    refused(&["get", "secret", "-n", "kube-system", "one.node-key"]);
    refused(&["delete", "pod", "two"]);
    node.ok(&["label", "node", "one", "example.com/own=yes"]);
    refused(&["label", "node", "one", "combo.io/site=here"]);
    refused(&["label", "node", "one", "combo.io/autonomy=true"]);
    refused(&["label", "node", "one", "sub.combo.io/site=here"]);
    refused(&[
        "label",
        "node",
        "one",
        "node-role.kubernetes.io/control-plane=true",
    ]);
    refused(&["label", "node", "one", "node-restriction.kubernetes.io/a=b"]);
    refused(&["label", "node", "two", "example.com/own=yes"]);
    refused(&["taint", "node", "one", "example.com/a=b:NoSchedule"]);
    refused(&["create", "serviceaccount", "mine"]);
}

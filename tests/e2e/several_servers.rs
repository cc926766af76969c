//! Two servers on an etcd cluster of three members, and an agent: one member is killed, then one server, and everything goes on once.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Test;
use crate::support::kubectl::is_ready;
use crate::support::nodes::Place;
use crate::support::objects::{config_map, deployment, idle, with};
use crate::support::server::{import_images, work_dir};
use crate::support::{Cluster, Kubectl, Node, eventually, within};

pub(crate) const TESTS: &[Test] = &[
    (
        "one_member_and_one_server_are_killed_and_everything_goes_on_once",
        killed,
    ),
    ("what_is_of_a_store_of_ones_own_is_refused", refused),
];

/// Names an etcd; `tests/etcd.sh` prints the path of one.
const ETCD: &str = "COMBO_ETCD";
const MEMBERS: usize = 3;
const TOKEN: &str = "a-password-of-servers";
/// A lease of upstream's length runs out, and is taken.
const TAKEOVER_MAX: Duration = Duration::from_secs(45);
/// What a caller may have to wait for while a member is replaced by another.
const HICCUP_MAX: Duration = Duration::from_secs(10);
const NAME: &str = "several";
const APP: &str = "shop";

/// An etcd cluster on one machine.
struct Etcd {
    /// Where they are; it must not go before them.
    _place: Place,
    members: Vec<Option<Child>>,
    urls: Vec<String>,
}

impl Etcd {
    fn start(place: Place) -> Self {
        let program = std::env::var_os(ETCD).map(PathBuf::from);
        let program =
            program.unwrap_or_else(|| panic!("{ETCD} is not set: {ETCD}=$(tests/etcd.sh)"));
        let url = |port: usize| format!("http://{}:{port}", place.address);
        let (client, peer) = (
            |at: usize| url(2379 + 10 * at),
            |at: usize| url(2380 + 10 * at),
        );
        let all: Vec<String> = (0..MEMBERS)
            .map(|at| format!("m{at}={}", peer(at)))
            .collect();
        let start = |at: usize| {
            let data = work_dir().join(format!("{NAME}-etcd-{at}"));
            let mut command = place.program(&program);
            command.arg("--data-dir").arg(data);
            command.args(["--name", &format!("m{at}"), "--log-level=error"]);
            command.args(["--listen-client-urls", &client(at)]);
            command.args(["--advertise-client-urls", &client(at)]);
            command.args(["--listen-peer-urls", &peer(at)]);
            command.args(["--initial-advertise-peer-urls", &peer(at)]);
            command.args(["--initial-cluster", &all.join(",")]);
            let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
            Some(quiet.spawn().expect("etcd starts"))
        };
        let members = (0..MEMBERS).map(start).collect();
        let urls = (0..MEMBERS).map(client).collect();
        Self {
            _place: place,
            members,
            urls,
        }
    }

    fn kill(&mut self, at: usize) {
        let mut member = self.members[at].take().expect("it runs");
        member.kill().expect("it is killed");
        member.wait().expect("a child");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in self.members.iter_mut().flatten() {
            drop(member.kill());
            drop(member.wait());
        }
    }
}

fn told(text: &str) {
    eprintln!("several_servers: {text}");
}

/// How long it takes until something that must succeed does.
fn timed(what: &str, limit: Duration, work: impl FnMut() -> Option<()>) {
    let begun = Instant::now();
    within(limit, what, work);
    told(&format!(
        "{what}: after {:.1} s",
        begun.elapsed().as_secs_f32()
    ));
}

fn written(kubectl: &Kubectl, name: &str) -> Option<()> {
    let object = config_map(name, "a", "b").to_string();
    let done = kubectl.run_with_input(&["apply", "-f", "-"], object.as_bytes());
    done.status.success().then_some(())
}

fn endpoints(kubectl: &Kubectl) -> Vec<String> {
    let slice = kubectl.get("endpointslice", "kubernetes");
    let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
    let address = |one: &Value| one["addresses"][0].as_str().map(str::to_owned);
    endpoints.iter().filter_map(address).collect()
}

fn holder(kubectl: &Kubectl, lease: &str) -> Option<String> {
    let lease = kubectl
        .clone()
        .in_namespace("kube-system")
        .find("lease", lease)?;
    let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
    (!holder.is_empty()).then_some(holder)
}

fn wait_api(kubectl: &Kubectl, server: &Node) {
    eventually(&format!("{}'s /readyz", server.name), || {
        kubectl.kubeconfig().exists().then_some(())?;
        let answer = kubectl.run(&["get", "--raw", "/readyz"]);
        answer.status.success().then_some(())
    });
}

/// Pods of the deployment that were ever made, as events tell, and those that are there.
fn counts(kubectl: &Kubectl) -> (usize, usize, usize) {
    let sets = kubectl.list("replicasets", &format!("app={APP}"));
    let pods = kubectl.list("pods", &format!("app={APP}"));
    let events = kubectl.list("events", "");
    let made = events
        .iter()
        .filter(|event| event["reason"] == "SuccessfulCreate")
        .filter(|event| {
            event["involvedObject"]["name"]
                .as_str()
                .is_some_and(|it| it.starts_with(APP))
        })
        .map(|event| event["count"].as_u64().unwrap_or(1))
        .sum::<u64>();
    (sets.len(), pods.len(), usize::try_from(made).expect("few"))
}

/// Two pods with a shell in them.
fn shop() -> Value {
    let pod = with(idle(APP), &json!({"spec": {"restartPolicy": "Always"}}));
    let template = json!({"spec": {"template": {"spec": pod["spec"]}}});
    with(deployment(APP, 2), &template)
}

fn rollout(kubectl: &Kubectl) {
    kubectl.ok(&[
        "rollout",
        "status",
        &format!("deployment/{APP}"),
        "--timeout=90s",
    ]);
}

fn reached_through(server: &str, kubectl: &Kubectl) {
    let pods = kubectl.list("pods", &format!("app={APP}"));
    let pod = pods[0]["metadata"]["name"].as_str().expect("a name");
    eventually(&format!("exec through {server}"), || {
        let done = kubectl.run(&["exec", pod, "--", "echo", "hello"]);
        (done.status.success() && done.stdout == b"hello\n").then_some(())
    });
    let logs = kubectl.run(&["logs", pod]);
    assert!(logs.status.success(), "{logs:?}");
    told(&format!("logs and exec of {pod} work through {server}"));
}

/// A server, and kubectl with its kubeconfig.
struct Served {
    node: Node,
    kubectl: Kubectl,
}

impl Served {
    fn name(&self) -> &str {
        &self.node.name
    }
}

fn killed() {
    let cluster = Cluster::prepare(NAME, &["--disable-agent"], &[]);
    let mut etcd = Etcd::start(cluster.place(60));
    let servers = start_both(&cluster, &etcd);
    let agent = join_worker(&cluster, &servers);
    servers[0].kubectl.create(&shop());
    rollout(&servers[1].kubectl);
    for server in &servers {
        reached_through(server.name(), &server.kubectl);
    }
    a_member_is_killed(&mut etcd, &servers);
    a_server_is_killed(&servers);
    let kubectl = &servers[0].kubectl;
    kubectl.ok(&["delete", "deployment", APP, "--wait=false"]);
    agent.tear_down();
    servers.iter().for_each(|server| server.node.tear_down());
}

/// Both at once: whose keys they have is settled between them.
fn start_both(cluster: &Cluster, etcd: &Etcd) -> [Served; 2] {
    let urls = etcd.urls.join(",");
    let servers = [("one", 51), ("two", 52)].map(|(name, at)| {
        let kubeconfig = work_dir().join(format!("{NAME}-{name}.kubeconfig"));
        let flags = [
            "--disable-agent",
            "--datastore-endpoint",
            &urls,
            "--token",
            TOKEN,
            "--write-kubeconfig",
            kubeconfig.to_str().expect("UTF-8"),
        ];
        let node = cluster.prepare_server(name, at, &flags);
        let kubectl = node.place.kubectl(&kubeconfig);
        Served { node, kubectl }
    });
    servers.iter().for_each(|server| server.node.run());
    for server in &servers {
        wait_api(&server.kubectl, &server.node);
    }
    let authority = |server: &Served| {
        let path = server.node.data_dir.join("server/tls/server-ca.crt");
        std::fs::read(path).expect("an authority")
    };
    assert_eq!(authority(&servers[0]), authority(&servers[1]));
    timed("both servers are endpoints", HICCUP_MAX, || {
        (endpoints(&servers[0].kubectl).len() == 2).then_some(())
    });
    servers
}

/// An agent that is told of one server, with the token that the other one has.
fn join_worker(cluster: &Cluster, servers: &[Served; 2]) -> Node {
    let url = format!("https://{}:6443", servers[0].node.place.address);
    let token = servers[1].node.data_dir.join("server/agent-token");
    let join = [
        "--server",
        &url,
        "--token-file",
        token.to_str().expect("UTF-8"),
    ];
    let agent = cluster.prepare_agent_at("worker", 70, &join);
    import_images(&agent.data_dir);
    agent.run();
    let kubectl = &servers[1].kubectl;
    kubectl.until("node", "worker", "Ready", is_ready);
    told("an agent joined one server with the token that the other one has");
    agent
}

fn a_member_is_killed(etcd: &mut Etcd, servers: &[Served; 2]) {
    etcd.kill(0);
    told(&format!("etcd member {} is killed", etcd.urls[0]));
    for server in servers {
        let name = server.name();
        timed(&format!("a write through {name}"), HICCUP_MAX, || {
            written(&server.kubectl, &format!("after-member-{name}"))
        });
    }
}

/// The server whose controllers lead.
fn a_server_is_killed(servers: &[Served; 2]) {
    let leader = |kubectl| holder(kubectl, "kube-controller-manager").expect("a leader");
    let before = leader(&servers[0].kubectl);
    let victim = usize::from(servers[1].node.log().contains(&before));
    let (dead, alive) = (&servers[victim], &servers[1 - victim]);
    let kubectl = &alive.kubectl;
    dead.node.kill();
    let name = dead.name();
    told(&format!(
        "{name}, whose controllers led ({before}), is killed"
    ));
    let what = format!("a write through {}", alive.name());
    timed(&what, HICCUP_MAX, || written(kubectl, "after-server"));
    kubectl.ok(&["scale", "deployment", APP, "--replicas=4"]);
    timed("four replicas are available", TAKEOVER_MAX, || {
        let deployment = kubectl.get("deployment", APP);
        (deployment["status"]["availableReplicas"] == 4).then_some(())
    });
    let after = leader(kubectl);
    assert!(alive.node.log().contains(&after), "{after}");
    let counted = counts(kubectl);
    told(&format!(
        "controllers of {after}: {} ReplicaSet, {} pods, {} made in all",
        counted.0, counted.1, counted.2
    ));
    assert_eq!(counted, (1, 4, 4), "one set of controllers acted");
    assert!(is_ready(&kubectl.get("node", "worker")), "the agent's node");
    reached_through(alive.name(), kubectl);
    timed("the dead server is no endpoint", TAKEOVER_MAX, || {
        (endpoints(kubectl) == [alive.node.place.address.clone()]).then_some(())
    });
    assert!(is_ready(&kubectl.get("node", "worker")), "the agent's node");
    comes_back(dead, kubectl);
}

fn comes_back(dead: &Served, others: &Kubectl) {
    dead.node.run();
    wait_api(&dead.kubectl, &dead.node);
    let what = "the server that came back is an endpoint again";
    timed(what, HICCUP_MAX, || {
        (endpoints(others).len() == 2).then_some(())
    });
    reached_through(dead.name(), &dead.kubectl);
    let counted = counts(&dead.kubectl);
    assert_eq!(counted, (1, 4, 4), "nothing was done again");
}

/// What `combo` with these words says of itself when it refuses.
fn refusal(words: &[&str]) -> String {
    let done = Command::new(crate::support::server::combo())
        .args(words)
        .output()
        .expect("combo runs");
    assert!(!done.status.success(), "{words:?}");
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn refused() {
    let folder = work_dir().join(format!("{NAME}-refused"));
    let folder = folder.to_str().expect("UTF-8");
    for (flags, why) in [
        (
            &["--datastore-endpoint", "mysql://u:secret@h/k"][..],
            "MySQL",
        ),
        (
            &["--datastore-endpoint", "https://127.0.0.1:1"],
            "--datastore-cafile",
        ),
        (&["--datastore-cafile", "/ca"], "--datastore-endpoint"),
        (
            &[
                "--datastore-endpoint",
                "http://127.0.0.1:1",
                "--etcd-listen",
                "2379",
            ],
            "its clients connect there",
        ),
        (
            &[
                "--datastore-endpoint",
                "http://127.0.0.1:1",
                "--etcd-snapshot-retention",
                "3",
            ],
            "etcdctl snapshot save",
        ),
    ] {
        let told = refusal(&[&["server", "--data-dir", folder], flags].concat());
        assert!(told.contains(why) && !told.contains("secret"), "{told}");
    }
    // A folder that was used with a datastore begins no cluster of its own by mistake.
    std::fs::create_dir_all(format!("{folder}/server/db")).expect("a folder");
    std::fs::write(
        format!("{folder}/server/db/datastore"),
        "id\nhttp://etcd:2379\n",
    )
    .expect("written");
    for words in [
        &["server", "--data-dir", folder, "--disable-agent"][..],
        &["db", "status", "--data-dir", folder],
        &["secrets-encrypt", "status", "--data-dir", folder],
        &["snapshot", "save", "--data-dir", folder],
        &["token", "rotate", "--data-dir", folder, "--role", "server"],
    ] {
        let told = refusal(words);
        assert!(told.contains("http://etcd:2379"), "{words:?}: {told}");
    }
}

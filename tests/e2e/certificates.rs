//! Certificates end and are replaced under load; nobody notices.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Test;
use crate::support::host::pids_of_pod;
use crate::support::http::{Answer, Http};
use crate::support::kubectl::{Follower, is_ready};
use crate::support::objects::{idle, script, with};
use crate::support::server::combo;
use crate::support::{Cluster, Kubectl, Node, Space, eventually, within};

pub(crate) const TESTS: &[Test] = &[
    ("certificates_are_renewed_while_requests_go_on", renewal),
    (
        "authorities_are_succeeded_and_nodes_pods_and_kubeconfigs_stay",
        succession,
    ),
];

/// How many renewals `certificates_are_renewed_while_requests_go_on` waits for, each forty seconds after the one before.
const RENEWALS: &str = "COMBO_E2E_RENEWALS";
/// The first certificates end before the second renewal: whoever still used one would fail.
const RENEWALS_DEFAULT: usize = 2;
/// Certificates live for a minute.
const RENEWAL_MAX: Duration = Duration::from_secs(60);
/// Between two requests of one caller: the load is that of many connections, not of a full processor.
const PAUSE: Duration = Duration::from_millis(50);
const API_PORT: u16 = 6443;
/// Says a word and runs on, in the same processes for ever.
const STAYS: &str = "echo begun; trap 'exit 0' TERM; while :; do sleep 100000 & wait; done";

/// What a certificate's file holds, of each time it was another.
#[derive(Default)]
struct Versions(Vec<String>);

impl Versions {
    fn look(&mut self, file: &Path) {
        let text = fs::read_to_string(file).unwrap_or_default();
        if !text.is_empty() && self.0.last() != Some(&text) {
            self.0.push(text);
        }
    }

    fn renewals(&self) -> usize {
        self.0.len().saturating_sub(1)
    }
}

fn renewal() {
    let wanted = std::env::var(RENEWALS).map_or(RENEWALS_DEFAULT, |count| count.parse().unwrap());
    let cluster = Cluster::start("renewal", &["--certificate-duration", "1m"], &["one"]);
    let space = Space::through(cluster.kubectl(), "renewal");
    let agent = cluster.agent("one");
    for node in ["server", "one"] {
        let pod = script(
            node,
            "i=0; (while :; do i=$((i+1)); echo line $i; sleep 1; done) & exec webserver",
        );
        let on_node = json!({"spec": {"nodeName": node, "restartPolicy": "Always"}});
        space.kubectl.start_pod(&with(pod, &on_node));
    }
    let mut followers = ["server", "one"].map(|pod| Following::start(&space.kubectl, pod));
    let load = Load::default();
    std::thread::scope(|threads| {
        for caller in callers(&cluster, agent, &space) {
            let load = &load;
            threads.spawn(move || load.keep_up(&caller));
        }
        let _end = load.ends_with_this();
        let (mut servers, mut agents) = (Versions::default(), Versions::default());
        for renewal in 0..=wanted {
            within(RENEWAL_MAX, &format!("renewal {renewal}"), || {
                servers.look(cluster.kubeconfig());
                agents.look(&agent.joined("client-kubelet.crt"));
                (servers.renewals() >= renewal && agents.renewals() >= renewal).then_some(())
            });
            for node in ["server", "one"] {
                assert_eq!(space.kubectl.sh(node, "hostname"), format!("{node}\n"));
                let found = cluster.kubectl().get("node", node);
                assert!(is_ready(&found), "{found}");
            }
            followers.iter_mut().for_each(Following::has_gone_on);
        }
    });
    let (requests, failures) = load.outcome();
    eprintln!(
        "{wanted} renewals: {requests} requests, {} failures",
        failures.len()
    );
    assert!(requests > 100 * wanted, "{requests} requests are no load");
    assert!(failures.is_empty(), "{failures:#?}");
    // The agent's own calls are answered, and so are a pod's.
    let late = with(idle("late"), &json!({"spec": {"nodeName": "one"}}));
    space.kubectl.start_pod(&late);
    drop((followers, space));
    cluster.tear_down();
}

fn succession() {
    let cluster = Cluster::start("authorities", &[], &["one"]);
    let space = Space::through(cluster.kubectl(), "authorities");
    let agent = cluster.agent("one");
    let pods = ["server", "one"].map(|node| {
        let on_node = json!({"spec": {"nodeName": node}});
        let pod = script(node, STAYS);
        space.kubectl.start_pod(&with(pod, &on_node))
    });
    let processes = || pods.each_ref().map(|pod| pids_of_pod(uid(pod)));
    let before = processes();
    assert!(before.iter().all(|pids| !pids.is_empty()), "{before:?}");
    let former = cluster.kubeconfig().with_extension("former");
    fs::copy(cluster.kubeconfig(), &former).unwrap();
    let former = cluster.server.place.kubectl(&former);
    let token = read(&cluster.server.data_dir.join("server/agent-token"));
    let folder = cluster.server.data_dir.to_str().unwrap();

    let told = combo_says(&["certificate", "rotate-ca", "-d", folder]);
    assert_eq!(told.matches('@').count(), 3, "{told}");
    cluster.server.end();
    cluster.server.run();
    eventually("another authority signs the server", || {
        let kubeconfig = fs::read(cluster.kubeconfig()).unwrap();
        (kubeconfig != fs::read(former.kubeconfig()).unwrap()).then_some(())
    });
    cluster.wait_api();
    eventually("the agent has both authorities", || {
        let kept = read(&agent.joined("server-ca.crt"));
        (kept.matches("BEGIN").count() == 2).then_some(())
    });
    assert_eq!(agent.log().matches(" joined").count(), 1, "it joined once");
    for kubectl in [&space.kubectl, &former.in_namespace(&space.name)] {
        for node in ["server", "one"] {
            eventually(&format!("the node {node} is reached"), || {
                let logs = kubectl.run(&["logs", node]);
                (logs.stdout == b"begun\n").then_some(())
            });
            assert_eq!(kubectl.sh(node, "hostname"), format!("{node}\n"));
            cluster.wait_ready(if node == "one" {
                agent
            } else {
                &cluster.server
            });
        }
    }
    assert_eq!(processes(), before, "no pod was touched");
    let now = read(&cluster.server.data_dir.join("server/agent-token"));
    assert_ne!(now, token, "the token pins the new authority");
    // Both tokens are believed; what they are refused for is the name.
    for token in [&token, &now] {
        let guest = ["--node-name", "one", "--token", token.trim()];
        let refused = cluster.try_to_join(&guest);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            said.contains("belongs to a node with another key"),
            "{said}"
        );
    }
    let listed = combo_says(&["certificate", "check", "-d", folder]);
    for part in ["combo-server-ca@", "client-admin.crt", " OK"] {
        assert!(listed.contains(part), "{listed}");
    }
    // An agent that starts anew believes what it was told.
    agent.end();
    agent.run();
    eventually("the agent is reached again", || {
        space
            .kubectl
            .run(&["logs", "one"])
            .status
            .success()
            .then_some(())
    });
    assert_eq!(processes(), before, "no pod was touched");
    drop(space);
    cluster.tear_down();
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// What a command of combo prints that must succeed.
fn combo_says(arguments: &[&str]) -> String {
    let done = Command::new(combo()).args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A client that follows a log from before the first renewal on.
struct Following {
    client: Follower,
    seen: usize,
}

impl Following {
    fn start(kubectl: &Kubectl, pod: &str) -> Self {
        let client = Follower::new(kubectl.spawn(&["logs", "-f", pod]));
        Self { client, seen: 0 }
    }

    /// More has come since it was looked at last.
    fn has_gone_on(&mut self) {
        within(RENEWAL_MAX, "a log goes on", || {
            let lines = self.client.seen().lines().count();
            (lines > self.seen).then(|| self.seen = lines)
        });
    }
}

/// Somebody who asks for the same again and again, on a new connection each time.
struct Caller<'a> {
    /// Where the caller is.
    from: &'a Node,
    server: SocketAddr,
    /// Who the caller is now: the certificate is read anew each time.
    as_whom: Box<dyn Fn(SocketAddr) -> Http + Send + Sync + 'a>,
    path: String,
    is_right: fn(&Answer) -> bool,
}

fn callers<'a>(cluster: &'a Cluster, agent: &'a Node, space: &Space) -> Vec<Caller<'a>> {
    let server = SocketAddr::new(cluster.server.place.address.parse().unwrap(), API_PORT);
    let pods = format!("/api/v1/namespaces/{}/pods", space.name);
    let caller = |from: &'a Node, path: String, is_right: fn(&Answer) -> bool| Caller {
        from,
        server,
        as_whom: Box::new(|server| Http::from_kubeconfig(server, cluster.kubeconfig())),
        path,
        is_right,
    };
    let lists = |answer: &Answer| answer.json()["items"].is_array();
    let logs = |answer: &Answer| answer.text().contains("line 1\n");
    let from_server = &cluster.server;
    let as_node = Caller {
        as_whom: Box::new(move |server| as_node(server, agent)),
        ..caller(agent, "/api/v1/nodes/one".to_owned(), |answer| {
            answer.json()["metadata"]["name"] == "one"
        })
    };
    vec![
        caller(from_server, pods.clone(), lists),
        caller(agent, pods.clone(), lists),
        as_node,
        caller(from_server, format!("{pods}/one/log?limitBytes=100"), logs),
        caller(agent, format!("{pods}/server/log?limitBytes=100"), logs),
        caller(
            from_server,
            format!("{pods}/one:8080/proxy/hostname"),
            |answer| answer.text() == "one",
        ),
    ]
}

/// With what the node keeps of its joining.
fn as_node(server: SocketAddr, node: &Node) -> Http {
    let read = |file: &str| fs::read(node.joined(file)).expect("it is kept");
    let (authority, key) = (read("server-ca.crt"), read("node.key"));
    Http::new(server, &authority, &read("client-kubelet.crt"), &key)
}

impl Caller<'_> {
    fn call(&self) -> io::Result<Answer> {
        (self.as_whom)(self.server).get(&self.path)
    }
}

/// What all callers together did.
#[derive(Default)]
struct Load {
    has_ended: AtomicBool,
    requests: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// Ends the load when it goes, also when a test fails.
struct EndOfLoad<'a>(&'a AtomicBool);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn ends_with_this(&self) -> EndOfLoad<'_> {
        EndOfLoad(&self.has_ended)
    }

    fn keep_up(&self, caller: &Caller<'_>) {
        caller.from.place.inside(|| {
            while !self.has_ended.load(Ordering::Relaxed) {
                let why = match caller.call() {
                    Ok(answer) if answer.status == 200 && (caller.is_right)(&answer) => None,
                    Ok(answer) => Some(format!("{} {}", answer.status, answer.text())),
                    Err(error) => Some(error.to_string()),
                };
                self.requests.fetch_add(1, Ordering::Relaxed);
                if let Some(why) = why {
                    let failure = format!("{} from {}: {why}", caller.path, caller.from.name);
                    self.failures.lock().expect("no panic").push(failure);
                }
                std::thread::sleep(PAUSE);
            }
        });
    }

    fn outcome(self) -> (usize, Vec<String>) {
        let failures = self.failures.into_inner().expect("no panic");
        (self.requests.into_inner(), failures)
    }
}

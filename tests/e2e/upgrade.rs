//! Another build takes the place of the one that runs, on a server and an agent, and gives it back.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Test;
use crate::support::host::pids_of_pod;
use crate::support::kubectl::is_ready;
use crate::support::objects::{idle, script, with};
use crate::support::server::combo;
use crate::support::{Cluster, Node, Space, eventually};

pub(crate) const TESTS: &[Test] = &[(
    "pods_run_on_through_an_upgrade_in_place_and_the_way_back",
    upgrade,
)];

/// The build before; without it the one under test takes its own place.
const PREVIOUS: &str = "COMBO_E2E_PREVIOUS";
/// Says a word and runs on, in the same processes for ever.
const STAYS: &str = "echo begun; trap 'exit 0' TERM; while :; do sleep 100000 & wait; done";
const NODES: [&str; 2] = ["server", "one"];

fn upgrade() {
    let previous = std::env::var_os(PREVIOUS).map_or_else(|| combo().to_owned(), PathBuf::from);
    let mut cluster = Cluster::prepare("upgrade", &[], &["one"]);
    cluster.all().for_each(|node| node.install(&previous));
    cluster.run();
    let cluster = &cluster;
    let space = Space::through(cluster.kubectl(), "upgrade");
    let pods = NODES.map(|node| {
        let pod = script(node, STAYS);
        let place = json!({"spec": {"nodeName": node, "restartPolicy": "Always"}});
        space.kubectl.start_pod(&with(pod, &place))
    });
    let processes = || pods.each_ref().map(|pod| pids_of_pod(uid(pod)));
    let before = processes();
    assert!(before.iter().all(|pids| !pids.is_empty()), "{before:?}");
    for (step, build) in [("up", combo()), ("back", &previous), ("again", combo())] {
        // Servers first, as versions of kubelets may not be newer.
        cluster.all().for_each(|node| replace(node, build));
        cluster.wait_api();
        for node in cluster.nodes() {
            let late = format!("{step}-{}", node.name);
            let place = json!({"spec": {"nodeName": node.name}});
            space.kubectl.start_pod(&with(idle(&late), &place));
            eventually(&format!("{} is reached", node.name), || {
                let logs = space.kubectl.run(&["logs", &node.name]);
                (logs.stdout == b"begun\n").then_some(())
            });
            assert_eq!(
                space.kubectl.sh(&node.name, "hostname"),
                format!("{}\n", node.name)
            );
            cluster.wait_ready(node);
        }
        assert_eq!(processes(), before, "{step}: no process is another");
        for (name, then) in NODES.iter().zip(&pods) {
            let now = space.kubectl.get("pod", name);
            assert_eq!(uid(&now), uid(then), "{step}");
            assert_eq!(
                now["status"]["containerStatuses"][0]["restartCount"], 0,
                "{step}"
            );
            assert!(is_ready(&now), "{step}: {now}");
        }
    }
    drop(space);
    cluster.tear_down();
}

fn replace(node: &Node, build: &Path) {
    node.end();
    node.install(build);
    node.run();
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap()
}

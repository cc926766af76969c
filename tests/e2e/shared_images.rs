//! `--embedded-registry`: nodes give images to each other.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::Test;
use crate::support::images::WEB;
use crate::support::objects::{web, with};
use crate::support::server::{combo, work_dir};
use crate::support::{Cluster, Node, Space, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("an_image_of_one_node_runs_on_another", shared),
    ("without_the_flag_nodes_give_nothing", not_shared),
];

/// A file that lets the images of the tests' own registry, which is nowhere, be shared.
fn registries() -> String {
    let path = work_dir().join("shared-registries.yaml");
    fs::write(&path, "mirrors:\n  combo.local:\n").expect("a file is written");
    path.to_str().expect("UTF-8").to_owned()
}

fn images_of(node: &Node) -> Vec<Value> {
    let mut command = Command::new(combo());
    command.args(["image", "list", "-o", "json", "-d"]);
    let done = command.arg(&node.data_dir).output().expect("combo runs");
    serde_json::from_slice(&done.stdout).expect("JSON")
}

fn has_web(node: &Node) -> bool {
    let images = images_of(node);
    images.iter().any(|image| image["tags"] == json!([WEB]))
}

fn forget_web(node: &Node) {
    let mut command = Command::new(combo());
    command.args(["image", "rm", WEB, "-d"]).arg(&node.data_dir);
    assert!(command.status().expect("combo runs").success());
    assert!(!has_web(node));
}

/// A pod of the web server on a node.
fn web_on(name: &str, node: &str) -> Value {
    with(web(name), &json!({"spec": {"nodeName": node}}))
}

fn shared() {
    let file = registries();
    let flags = ["--embedded-registry", "--private-registry", &file];
    let cluster = Cluster::start_with("shared-images", &flags, &["one", "two"], &flags[1..]);
    let space = Space::through(cluster.kubectl(), "shared-images");
    let (one, two) = (cluster.agent("one"), cluster.agent("two"));
    // From agent to agent, while the server's own node has none to give; then from an agent to the server.
    forget_web(&cluster.server);
    forget_web(two);
    for (name, node) in [("first", two), ("second", &cluster.server)] {
        space.kubectl.start_pod(&web_on(name, &node.name));
        assert!(has_web(node));
        let events = space.kubectl.ok(&["get", "events"]);
        let pulled = format!("Successfully pulled image \"{WEB}\"");
        assert!(events.contains(&pulled), "{events}");
    }
    assert!(has_web(one));
    drop(space);
    cluster.tear_down();
}

fn not_shared() {
    let file = registries();
    let flags = ["--private-registry", &file];
    let cluster = Cluster::start_with("kept-images", &flags, &["one"], &flags);
    let space = Space::through(cluster.kubectl(), "kept-images");
    let kubectl = &space.kubectl;
    let path = "/api/v1/nodes/one/proxy/v2/";
    let told = kubectl.fails(&["get", "--raw", path]);
    assert!(told.contains("NotFound"), "{told}");
    forget_web(&cluster.server);
    kubectl.create(&web_on("alone", "server"));
    eventually("the pull fails", || {
        let pod = kubectl.get("pod", "alone");
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        let reason = waiting["reason"].as_str()?;
        reason.contains("ImagePull").then_some(())
    });
    drop(space);
    cluster.tear_down();
}

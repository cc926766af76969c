//! `combo kubectl`, so that a board needs no other tool.

use crate::Test;
use crate::support::images::WEB_2;
use crate::support::kubectl::Follower;
use crate::support::objects::{config_map, idle, script};
use crate::support::server::combo;
use crate::support::{Kubectl, Space, eventually, shared};

pub(crate) const TESTS: &[Test] = &[
    ("a_deployment_is_applied_rolled_out_and_scaled", deployment),
    ("objects_are_listed_described_and_deleted", objects),
    ("logs_follow_and_exec_gives_the_exit_code", streams),
    ("wait_and_watch_see_changes", waits),
];

fn space(name: &str) -> Space {
    Space::through(Kubectl::built_in(combo(), &shared().kubeconfig), name)
}

fn deployment() {
    let space = space("built-in-deployment");
    super::kubectl::live(&space.kubectl);
    space.kubectl.ok(&[
        "patch",
        "deployment",
        "web",
        "-p",
        &format!(r#"{{"spec":{{"template":{{"spec":{{"containers":[{{"name":"main","image":"{WEB_2}"}}]}}}}}}}}"#),
    ]);
    space
        .kubectl
        .ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert!(
        space
            .kubectl
            .ok(&["rollout", "undo", "deployment/web"])
            .contains("rolled back")
    );
    space
        .kubectl
        .ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
}

fn objects() {
    let space = space("built-in-objects");
    space.kubectl.start_pod(&idle("listed"));
    let table = space.kubectl.ok(&["get", "pods"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["listed", "1/1", "Running", "0"], "{table}");
    assert!(
        space
            .kubectl
            .ok(&["get", "pods", "-o", "wide"])
            .contains("node-shared")
    );
    assert_eq!(
        space.kubectl.ok(&["get", "pods", "-o", "name"]).trim(),
        "pod/listed"
    );
    assert!(
        space
            .kubectl
            .ok(&["get", "pods", "-A"])
            .contains("built-in-objects")
    );
    assert!(
        space
            .kubectl
            .ok(&["get", "pod", "listed", "-o", "yaml"])
            .contains("\n  name: listed\n")
    );
    let told = space.kubectl.ok(&["describe", "pod", "listed"]);
    assert!(
        told.contains("node-shared") && told.contains("combo.local/busybox:1"),
        "{told}"
    );
    assert!(
        space
            .kubectl
            .fails(&["get", "pod", "nobody"])
            .contains("pods \"nobody\" not found")
    );
    space.kubectl.ok(&["delete", "pod", "listed"]);
    assert!(space.kubectl.find("pod", "listed").is_none());
}

fn streams() {
    let space = space("built-in-streams");
    space.kubectl.start_pod(&script(
        "speaking",
        "echo one; until test -e /tmp/go; do sleep 0.1; done; echo two",
    ));
    let mut follower = Follower::new(space.kubectl.spawn(&["logs", "-f", "speaking"]));
    follower.wait_for("one");
    let output = space.kubectl.run(&[
        "exec",
        "speaking",
        "--",
        "sh",
        "-c",
        "touch /tmp/go; echo out; exit 7",
    ]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(7), &b"out\n"[..]),
        "{output:?}"
    );
    follower.wait_for("two");
    assert_eq!(follower.exit_code(), Some(0));
}

fn waits() {
    let space = space("built-in-waits");
    let follower = Follower::new(space.kubectl.spawn(&["get", "configmaps", "-w"]));
    follower.wait_for("kube-root-ca.crt");
    space.kubectl.create(&config_map("seen", "a", "b"));
    follower.wait_for("seen");
    space.kubectl.create(&idle("awaited"));
    let met = space.kubectl.ok(&[
        "wait",
        "--for=condition=Ready",
        "pod/awaited",
        "--timeout=60s",
    ]);
    assert!(met.contains("pod/awaited condition met"), "{met}");
    space
        .kubectl
        .ok(&["delete", "pod", "awaited", "--wait=false"]);
    eventually("it is gone", || {
        space.kubectl.find("pod", "awaited").is_none().then_some(())
    });
}

//! What people do with a stock kubectl, and its answers; a part again with other clients.

use std::path::Path;

use serde_json::{Value, json};

use crate::Test;
use crate::support::images::{WEB, WEB_2};
use crate::support::kubectl::on_path;
use crate::support::objects::{config_map, deployment, web, with};
use crate::support::{Kubectl, Space, eventually, shared};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_deployment_rolls_out_scales_changes_and_goes_back",
        deployment_life,
    ),
    ("the_same_with_the_kubectl_on_path", deployment_life_on_path),
    ("describe_tells_of_events_and_containers", describe),
    ("explain_knows_the_containers_of_a_pod", explain),
    ("can_i_lists_what_the_administrator_may", can_i),
    ("wait_sees_a_condition_come", wait),
    (
        "server_side_apply_tells_of_a_conflict_and_may_force",
        server_side_apply,
    ),
    ("diff_shows_what_would_change", diff),
    ("deletion_cascades_in_its_three_forms", cascade),
    ("get_prints_tables_and_watches", get),
];

fn deployment_life() {
    let space = Space::new("deployment-life");
    live(&space.kubectl);
    rollback(&space.kubectl);
}

fn deployment_life_on_path() {
    if on_path(Path::new("kubectl")).is_none() {
        eprintln!("note: there is no kubectl on PATH");
        return;
    }
    let space = Space::through(
        Kubectl::on_path(&shared().kubeconfig),
        "deployment-life-on-path",
    );
    live(&space.kubectl);
    rollback(&space.kubectl);
}

/// Apply, roll out, scale.
pub(crate) fn live(kubectl: &Kubectl) {
    assert!(
        kubectl
            .apply(&deployment("web", 3))
            .contains("deployment.apps/web created")
    );
    assert!(
        kubectl
            .apply(&deployment("web", 3))
            .contains("deployment.apps/web unchanged")
    );
    let rolled_out = kubectl.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert!(
        rolled_out.contains("successfully rolled out"),
        "{rolled_out}"
    );
    assert_eq!(ready(kubectl), 3);
    assert!(
        kubectl
            .ok(&["scale", "deployment/web", "--replicas=1"])
            .contains("deployment.apps/web scaled")
    );
    eventually("one pod is left", || {
        (kubectl.list("pods", "app=web").len() == 1).then_some(())
    });
}

fn ready(kubectl: &Kubectl) -> u64 {
    kubectl.get("deployment", "web")["status"]["readyReplicas"]
        .as_u64()
        .unwrap_or_default()
}

/// A new image, and back.
fn rollback(kubectl: &Kubectl) {
    kubectl.ok(&["set", "image", "deployment/web", &format!("main={WEB_2}")]);
    kubectl.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(images(kubectl), [WEB_2]);
    let history = kubectl.ok(&["rollout", "history", "deployment/web"]);
    assert!(
        history.contains("REVISION") && history.contains("\n2 "),
        "{history}"
    );
    assert!(
        kubectl
            .ok(&["rollout", "undo", "deployment/web"])
            .contains("rolled back")
    );
    kubectl.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(images(kubectl), [WEB]);
    assert!(
        kubectl
            .ok(&["rollout", "restart", "deployment/web"])
            .contains("restarted")
    );
    kubectl.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
}

/// The images of the pods that stay.
fn images(kubectl: &Kubectl) -> Vec<String> {
    eventually("old pods are gone", || {
        let pods = kubectl.list("pods", "app=web");
        let stay = |pod: &&Value| pod["metadata"].get("deletionTimestamp").is_none();
        let image = |pod: &Value| {
            pod["spec"]["containers"][0]["image"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let images: Vec<String> = pods.iter().filter(stay).map(image).collect();
        (images.len() == 1).then_some(images)
    })
}

fn describe() {
    let space = Space::new("describe");
    space.kubectl.start_pod(&web("told"));
    let told = eventually("the event of the start", || {
        let told = space.kubectl.ok(&["describe", "pod", "told"]);
        told.contains("Started").then_some(told)
    });
    for text in [
        "Image:          combo.local/webserver:1",
        "Status:           Running",
        "Scheduled",
        "Pulled",
        "node-shared",
    ] {
        assert!(told.contains(text), "{text:?} in\n{told}");
    }
    let node = space.kubectl.ok(&["describe", "node", "node-shared"]);
    assert!(
        node.contains("Allocated resources") && node.contains("KubeletReady"),
        "{node}"
    );
    assert!(
        space
            .kubectl
            .fails(&["describe", "pod", "nobody"])
            .contains("pods \"nobody\" not found")
    );
}

fn explain() {
    let text = shared().kubectl().ok(&["explain", "pods.spec.containers"]);
    for part in [
        "KIND:       Pod",
        "FIELD: containers",
        "image\t",
        "livenessProbe\t",
        "-required-",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

fn can_i() {
    let kubectl = shared().kubectl();
    let list = kubectl.ok(&["auth", "can-i", "--list"]);
    assert!(
        list.lines()
            .any(|line| line.starts_with("*.*") && line.contains("[*]")),
        "{list}"
    );
    assert_eq!(
        kubectl.ok(&["auth", "can-i", "create", "pods"]).trim(),
        "yes"
    );
    let other = kubectl.run(&[
        "auth",
        "can-i",
        "create",
        "pods",
        "--as",
        "system:serviceaccount:default:default",
    ]);
    assert_eq!(String::from_utf8_lossy(&other.stdout).trim(), "no");
}

fn wait() {
    let space = Space::new("wait");
    space.kubectl.create(&web("awaited"));
    let met = space.kubectl.ok(&[
        "wait",
        "--for=condition=Ready",
        "pod/awaited",
        "--timeout=60s",
    ]);
    assert_eq!(met.trim(), "pod/awaited condition met");
    let late = space
        .kubectl
        .fails(&["wait", "--for=delete", "pod/awaited", "--timeout=1s"]);
    assert!(
        late.contains("timed out waiting for the condition on pods/awaited"),
        "{late}"
    );
}

fn server_side_apply() {
    let space = Space::new("server-side-apply");
    let apply = |manager: &str, value: &str, more: &[&str]| {
        let mut words = vec![
            "apply",
            "--server-side",
            "--field-manager",
            manager,
            "-f",
            "-",
        ];
        words.extend(more);
        space.kubectl.run_with_input(
            &words,
            config_map("shared", "key", value).to_string().as_bytes(),
        )
    };
    let first = apply("one", "1", &[]);
    assert!(
        String::from_utf8_lossy(&first.stdout).contains("configmap/shared serverside-applied"),
        "{first:?}"
    );
    let conflict = apply("two", "2", &[]);
    let said = String::from_utf8_lossy(&conflict.stderr);
    assert!(!conflict.status.success());
    assert!(
        said.contains("conflict with \"one\"") && said.contains(".data.key"),
        "{said}"
    );
    assert!(apply("two", "2", &["--force-conflicts"]).status.success());
    assert_eq!(space.kubectl.get("configmap", "shared")["data"]["key"], "2");
    assert!(apply("two", "2", &[]).status.success());
}

fn diff() {
    let space = Space::new("diff");
    space.kubectl.apply(&config_map("compared", "key", "old"));
    let changed = config_map("compared", "key", "new").to_string();
    let difference = space
        .kubectl
        .run_with_input(&["diff", "-f", "-"], changed.as_bytes());
    let shown = String::from_utf8_lossy(&difference.stdout);
    assert_eq!(difference.status.code(), Some(1), "{difference:?}");
    assert!(
        shown.contains("-  key: old") && shown.contains("+  key: new"),
        "{shown}"
    );
    let same = config_map("compared", "key", "old").to_string();
    assert_eq!(
        space
            .kubectl
            .run_with_input(&["diff", "-f", "-"], same.as_bytes())
            .status
            .code(),
        Some(0)
    );
}

fn cascade() {
    let space = Space::new("cascade");
    let kubectl = &space.kubectl;
    for form in ["background", "foreground", "orphan"] {
        kubectl.create(&deployment(form, 1));
        kubectl.ok(&[
            "rollout",
            "status",
            &format!("deployment/{form}"),
            "--timeout=60s",
        ]);
        kubectl.ok(&[
            "delete",
            "deployment",
            form,
            &format!("--cascade={form}"),
            "--timeout=60s",
        ]);
        assert!(kubectl.find("deployment", form).is_none());
    }
    for form in ["background", "foreground"] {
        let is_gone = || {
            kubectl
                .list("replicasets,pods", &format!("app={form}"))
                .is_empty()
        };
        eventually(&format!("no dependant after {form} deletion"), || {
            is_gone().then_some(())
        });
    }
    let orphans = kubectl.list("replicasets", "app=orphan");
    assert_eq!(orphans.len(), 1);
    assert!(
        orphans[0]["metadata"].get("ownerReferences").is_none(),
        "{}",
        orphans[0]["metadata"]
    );
    assert_eq!(kubectl.list("pods", "app=orphan").len(), 1);
}

fn get() {
    let space = Space::new("get");
    space.kubectl.start_pod(&web("listed"));
    let wide = space.kubectl.ok(&["get", "pods", "-o", "wide"]);
    let mut lines = wide.lines();
    let columns: Vec<&str> = lines
        .next()
        .unwrap()
        .split("  ")
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    let wanted = [
        "NAME",
        "READY",
        "STATUS",
        "RESTARTS",
        "AGE",
        "IP",
        "NODE",
        "NOMINATED NODE",
        "READINESS GATES",
    ];
    assert_eq!(columns, wanted);
    let row: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["listed", "1/1", "Running", "0"]);
    assert_eq!(
        space.kubectl.ok(&["get", "pods", "-o", "name"]).trim(),
        "pod/listed"
    );
    let phase = space
        .kubectl
        .ok(&["get", "pod", "listed", "-o", "jsonpath={.status.phase}"]);
    assert_eq!(phase, "Running");
    let follower =
        crate::support::kubectl::Follower::new(space.kubectl.spawn(&["get", "configmaps", "-w"]));
    follower.wait_for("kube-root-ca.crt");
    space.kubectl.create(&with(
        config_map("seen", "a", "b"),
        &json!({"metadata": {"labels": {"x": "y"}}}),
    ));
    follower.wait_for("seen");
}

//! Volumes as containers see them.

use serde_json::{Value, json};

use crate::Test;
use crate::support::objects::{config_map, idle, script, with, with_container};
use crate::support::{Space, eventually, within};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    ("a_changed_config_map_is_seen_inside", config_map_update),
    ("a_secret_is_a_file_and_a_variable", secret),
    ("a_projected_token_speaks_to_the_api_from_inside", token),
    ("an_empty_directory_in_memory_has_its_limit", memory),
    (
        "containers_of_a_pod_share_an_empty_directory",
        shared_directory,
    ),
    ("a_sub_path_shows_one_part_of_a_volume", sub_path),
    ("the_downward_api_tells_of_the_pod", downward_api),
    ("a_host_path_is_checked_for_its_type", host_path),
];

/// The kubelet looks again at the latest after its period and the jitter of a turn.
const UPDATE_LIMIT: Duration = Duration::from_secs(150);

fn volume(pod: Value, volume: &Value, mount: &Value) -> Value {
    let pod = with(pod, &json!({"spec": {"volumes": [volume]}}));
    with_container(pod, &json!({"volumeMounts": [mount]}))
}

fn config_map_update() {
    let space = Space::new("config-map-update");
    space
        .kubectl
        .create(&config_map("settings", "colour", "blue"));
    let source = json!({"name": "v", "configMap": {"name": "settings"}});
    space.kubectl.start_pod(&volume(
        idle("reader"),
        &source,
        &json!({"name": "v", "mountPath": "/v"}),
    ));
    assert_eq!(space.kubectl.sh("reader", "cat /v/colour"), "blue");
    space
        .kubectl
        .apply(&config_map("settings", "colour", "green"));
    within(UPDATE_LIMIT, "the new value inside", || {
        (space.kubectl.sh("reader", "cat /v/colour") == "green").then_some(())
    });
    let refused = space
        .kubectl
        .fails(&["exec", "reader", "--", "touch", "/v/x"]);
    assert!(refused.contains("Read-only file system"), "{refused}");
}

fn secret() {
    let space = Space::new("secret");
    space.kubectl.ok(&[
        "create",
        "secret",
        "generic",
        "word",
        "--from-literal=key=open sesame",
    ]);
    let source = json!({"name": "v", "secret": {"secretName": "word", "defaultMode": 256}});
    let pod = script(
        "reader",
        "stat -L -c %a /v/key; cat /v/key; echo; echo $KEY; stat -f -c %T /v",
    );
    let variable = json!({"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "word", "key": "key"}}}]});
    let pod = with_container(
        volume(pod, &source, &json!({"name": "v", "mountPath": "/v"})),
        &variable,
    );
    assert_eq!(
        space.kubectl.run_pod(&pod),
        "400\nopen sesame\nopen sesame\ntmpfs\n"
    );
}

fn token() {
    let space = Space::new("token");
    space.kubectl.ok(&[
        "create",
        "rolebinding",
        "view",
        "--clusterrole=view",
        "--serviceaccount=token:default",
    ]);
    let kubectl =
        json!({"name": "v", "hostPath": {"path": space.kubectl.program(), "type": "File"}});
    let text = "/kubectl auth whoami -o jsonpath={.status.userInfo.username}; echo; /kubectl get pods -o name; /kubectl get nodes";
    let pod = volume(
        script("caller", text),
        &kubectl,
        &json!({"name": "v", "mountPath": "/kubectl"}),
    );
    let log = space.kubectl.run_pod(&with_container(
        pod,
        &json!({"env": [{"name": "HOME", "value": "/tmp"}]}),
    ));
    for part in [
        "system:serviceaccount:token:default\n",
        "pod/caller\n",
        "nodes is forbidden",
    ] {
        assert!(log.contains(part), "{part:?} in {log}");
    }
}

fn memory() {
    let space = Space::new("memory");
    let source = json!({"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
    let text = "stat -f -c %T /v; head -c 2000000 /dev/zero > /v/big; wc -c < /v/big";
    let log = space.kubectl.run_pod(&volume(
        script("writer", text),
        &source,
        &json!({"name": "v", "mountPath": "/v"}),
    ));
    assert!(log.contains("tmpfs") && log.contains("1048576"), "{log}");
}

fn shared_directory() {
    let space = Space::new("shared-directory");
    let source = json!({"name": "v", "emptyDir": {}});
    let mount = json!({"name": "v", "mountPath": "/v"});
    let mut pod = volume(
        script(
            "pair",
            "until test -s /v/note; do sleep 0.1; done; cat /v/note",
        ),
        &source,
        &mount,
    );
    let other = json!({"name": "other", "image": pod["spec"]["containers"][0]["image"], "volumeMounts": [mount],
        "command": ["sh", "-c", "echo hello > /v/new && mv /v/new /v/note"]});
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(other);
    space.kubectl.create(&pod);
    space.kubectl.until("pod", "pair", "done", |pod| {
        pod["status"]["phase"] == "Succeeded"
    });
    assert_eq!(space.kubectl.ok(&["logs", "pair", "-c", "main"]), "hello\n");
}

fn sub_path() {
    let space = Space::new("sub-path");
    space
        .kubectl
        .create(&config_map("settings", "colour", "blue"));
    let source = json!({"name": "v", "configMap": {"name": "settings"}});
    let mount = json!({"name": "v", "mountPath": "/etc/colour", "subPath": "colour"});
    assert_eq!(
        space
            .kubectl
            .run_pod(&volume(
                script("file", "cat /etc/colour; echo; ls /etc"),
                &source,
                &mount
            ))
            .lines()
            .next(),
        Some("blue")
    );
    let source = json!({"name": "v", "emptyDir": {}});
    let mount = json!({"name": "v", "mountPath": "/v", "subPathExpr": "of-$(NAME)"});
    let pod = volume(
        script(
            "made",
            "grep -c ' /v ' /proc/self/mountinfo; grep ' /v ' /proc/self/mountinfo",
        ),
        &source,
        &mount,
    );
    let pod = with_container(pod, &json!({"env": [{"name": "NAME", "value": "me"}]}));
    let log = space.kubectl.run_pod(&pod);
    assert!(log.starts_with("1\n") && log.contains("/of-me"), "{log}");
    let outside = json!({"name": "v", "mountPath": "/v", "subPath": "../escape"});
    let refused = space.kubectl.run_with_input(
        &["create", "-f", "-"],
        volume(idle("out"), &source, &outside)
            .to_string()
            .as_bytes(),
    );
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("must not contain '..'"),
        "{refused:?}"
    );
}

fn downward_api() {
    let space = Space::new("downward-api");
    let source = json!({"name": "v", "downwardAPI": {"items": [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "memory", "resourceFieldRef": {"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}},
    ]}});
    let text = "cat /v/labels; echo; cat /v/memory; echo; echo $NODE $POD_IP; hostname -i";
    let pod = volume(
        script("aware", text),
        &source,
        &json!({"name": "v", "mountPath": "/v"}),
    );
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let env = json!({"env": [{"name": "NODE", "valueFrom": field("spec.nodeName")}, {"name": "POD_IP", "valueFrom": field("status.podIP")}],
        "resources": {"limits": {"memory": "64Mi"}}});
    let log = space.kubectl.run_pod(&with_container(pod, &env));
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..2], ["app=\"aware\"", "64"], "{log}");
    let (node, address) = lines[2].split_once(' ').unwrap();
    assert_eq!((node, address), ("node-shared", lines[3]));
}

fn host_path() {
    let space = Space::new("host-path");
    let mount = json!({"name": "v", "mountPath": "/v"});
    let source = json!({"name": "v", "hostPath": {"path": "/etc/hostname", "type": "File"}});
    let own = std::fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(
        space
            .kubectl
            .run_pod(&volume(script("file", "cat /v"), &source, &mount)),
        own
    );
    let source = json!({"name": "v", "hostPath": {"path": "/etc/hostname", "type": "Directory"}});
    space
        .kubectl
        .create(&volume(idle("wrong"), &source, &mount));
    eventually("the wrong type is told", || {
        let told = space.kubectl.ok(&["describe", "pod", "wrong"]);
        told.contains("hostPath type check failed: /etc/hostname is not a directory")
            .then_some(())
    });
}

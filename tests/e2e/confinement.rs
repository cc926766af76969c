//! What a process in a pod is and may do, looked at from inside, where the kernel tells.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Test;
use crate::support::host::pids_of_pod;
use crate::support::images::SELF_EXECUTING;
use crate::support::objects::{idle, script, with, with_container};
use crate::support::server::combo;
use crate::support::{Space, eventually, shared};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_default_pod_has_the_filter_and_dockers_capabilities",
        defaults,
    ),
    ("users_groups_and_no_new_privileges_are_as_asked", users),
    ("capabilities_are_added_and_dropped", capabilities),
    (
        "a_call_outside_the_profile_is_refused_also_for_32_bit_programs",
        refused_calls,
    ),
    ("a_privileged_pod_has_none_of_it", privileged),
    (
        "a_profile_that_cannot_be_applied_fails_the_pod",
        broken_profile,
    ),
    (
        "a_script_run_by_its_own_runner_cannot_write_the_hosts_binary",
        own_binary,
    ),
    (
        "exec_into_a_user_namespace_is_not_the_hosts_root",
        user_namespace,
    ),
    (
        "host_namespaces_are_shared_only_when_asked",
        host_namespaces,
    ),
    ("a_read_only_root_is_read_only", read_only_root),
];

const DOCKERS_CAPABILITIES: &str = "00000000a80425fb";
const NONE: &str = "0000000000000000";

/// A field of /proc/self/status.
fn field(status: &str, name: &str) -> String {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}:")));
    let words: Vec<&str> = line
        .unwrap_or_else(|| panic!("no {name} in {status}"))
        .split_whitespace()
        .collect();
    words.join(" ")
}

fn fields<const N: usize>(status: &str, names: [&str; N]) -> [String; N] {
    names.map(|name| field(status, name))
}

/// A pod that shows its own status, with this security context of its container.
fn status_pod(name: &str, security: &Value) -> Value {
    with_container(
        script(name, "cat /proc/self/status"),
        &json!({"securityContext": security}),
    )
}

fn defaults() {
    let space = Space::new("defaults");
    let status = space.kubectl.run_pod(&status_pod("plain", &json!({})));
    let found = fields(
        &status,
        [
            "Seccomp",
            "CapEff",
            "CapPrm",
            "CapBnd",
            "CapInh",
            "CapAmb",
            "NoNewPrivs",
        ],
    );
    let caps = DOCKERS_CAPABILITIES;
    assert_eq!(found, ["2", caps, caps, caps, NONE, NONE, "0"]);
    // An exec is no back door.
    space.kubectl.start_pod(&idle("entered"));
    let status = space
        .kubectl
        .ok(&["exec", "entered", "--", "cat", "/proc/self/status"]);
    assert_eq!(
        fields(&status, ["Seccomp", "CapEff", "CapBnd"]),
        ["2", caps, caps]
    );
}

fn users() {
    let space = Space::new("users");
    let security =
        json!({"runAsUser": 1000, "runAsGroup": 2000, "allowPrivilegeEscalation": false});
    let groups =
        json!({"spec": {"securityContext": {"supplementalGroups": [3000], "fsGroup": 4000}}});
    let status = space
        .kubectl
        .run_pod(&with(status_pod("person", &security), &groups));
    let found = fields(
        &status,
        ["Uid", "Gid", "Groups", "NoNewPrivs", "CapEff", "Seccomp"],
    );
    // 50 is a group that the image's /etc/group gives to the user.
    assert_eq!(
        found,
        [
            "1000 1000 1000 1000",
            "2000 2000 2000 2000",
            "50 2000 3000 4000",
            "1",
            NONE,
            "2"
        ]
    );
    // An image's root where the pod says nobody may be root.
    space
        .kubectl
        .create(&status_pod("refused", &json!({"runAsNonRoot": true})));
    let pod = space.kubectl.until("pod", "refused", "refused", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
            == "CreateContainerConfigError"
    });
    let said = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert!(
        said.as_str()
            .unwrap()
            .contains("container has runAsNonRoot and image will run as root"),
        "{said}"
    );
}

fn capabilities() {
    let space = Space::new("capabilities");
    let security = json!({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}});
    let status = space.kubectl.run_pod(&status_pod("one", &security));
    assert_eq!(
        fields(&status, ["CapEff", "CapBnd"]),
        ["0000000000000400", "0000000000000400"]
    );
}

fn refused_calls() {
    let space = Space::new("refused-calls");
    let text = "unshare -U true || echo refused; mount -t tmpfs none /tmp || echo refused; call32; echo $?";
    let lines = |name: &str, security: &Value| {
        let pod = with_container(script(name, text), &json!({"securityContext": security}));
        let log = space.kubectl.run_pod(&pod);
        log.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let confined = lines("confined", &json!({}));
    assert_eq!(
        confined.iter().filter(|line| *line == "refused").count(),
        2,
        "{confined:?}"
    );
    assert!(
        confined
            .iter()
            .any(|line| line.contains("Operation not permitted")),
        "{confined:?}"
    );
    let free = lines("free", &json!({"seccompProfile": {"type": "Unconfined"}}));
    assert_eq!(
        free.iter().filter(|line| *line == "refused").count(),
        1,
        "only the mount: {free:?}"
    );
    if cfg!(target_arch = "x86_64") {
        // `call32` ends with the error number of add_key: EPERM by the filter, else whatever the kernel says.
        assert_eq!(confined.last().unwrap(), "1");
        assert_ne!(free.last().unwrap(), "1");
    }
}

fn privileged() {
    let space = Space::new("privileged");
    let text =
        "cat /proc/self/status; mount -t tmpfs none /tmp && test -e /dev/kmsg && echo mounted";
    let pod = with_container(
        script("all", text),
        &json!({"securityContext": {"privileged": true}}),
    );
    let status = space.kubectl.run_pod(&pod);
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(
        fields(&status, ["Seccomp", "CapEff"]),
        ["0".to_owned(), field(&own, "CapEff")]
    );
    assert!(status.contains("mounted"), "{status}");
}

fn broken_profile() {
    let space = Space::new("broken-profile");
    let folder = shared().data_dir.join("agent/kubelet/seccomp");
    std::fs::create_dir_all(&folder).unwrap();
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    std::fs::write(folder.join("whole.json"), profile).unwrap();
    std::fs::write(folder.join("broken.json"), "{").unwrap();
    let with_profile = |name: &str, file: &str| {
        let security = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": file}});
        with_container(
            script(name, "mkdir /tmp/x"),
            &json!({"securityContext": security}),
        )
    };
    let log = space.kubectl.run_pod(&with_profile("whole", "whole.json"));
    assert!(log.contains("No space left on device"), "{log}");
    for (name, file) in [("broken", "broken.json"), ("missing", "missing.json")] {
        space.kubectl.create(&with_profile(name, file));
        let pod = space.kubectl.until("pod", name, "held", |pod| {
            let reason = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
            [
                "CreateContainerError",
                "CreateContainerConfigError",
                "RunContainerError",
            ]
            .iter()
            .any(|one| reason == one)
        });
        let said = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
            .as_str()
            .unwrap();
        assert!(said.contains("seccomp"), "{said}");
        assert_eq!(
            space.kubectl.run(&["logs", name]).stdout,
            b"",
            "it never ran"
        );
    }
}

/// The places from which containers are started: the binary, and what shims run from.
fn binaries() -> Vec<PathBuf> {
    let folder = shared().data_dir.join("run/binaries");
    let mut all = vec![combo().to_owned()];
    all.extend(
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    all
}

fn own_binary() {
    // Every process around is looked at, again and again, while our binary runs as the interpreter of /evil.
    const ATTACK: &str = "i=0; while [ $i -lt 150 ]; do i=$((i+1)); /evil >/dev/null 2>&1 & for p in /proc/[0-9]*; do \
        case \"$(readlink $p/exe)\" in */busybox) ;; *) echo x 2>/dev/null >>$p/exe && echo WRITTEN $p;; esac; done; done; echo done";
    let space = Space::new("own-binary");
    let before: Vec<_> = binaries()
        .iter()
        .map(|path| (path.clone(), path.metadata().unwrap()))
        .collect();
    assert!(before.len() >= 2);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "evil"},
        "spec": {
            "shareProcessNamespace": true, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [
                {"name": "entry", "image": SELF_EXECUTING},
                {"name": "main", "image": SELF_EXECUTING, "command": ["sh", "-c", ATTACK],
                 "livenessProbe": {"exec": {"command": ["/evil"]}, "periodSeconds": 1, "failureThreshold": 1000}},
            ],
        },
    });
    space.kubectl.create(&pod);
    space.kubectl.until("pod", "evil", "ended", |pod| {
        pod["status"]["phase"] == "Failed" || pod["status"]["phase"] == "Succeeded"
    });
    let log = space.kubectl.ok(&["logs", "evil", "-c", "main"]);
    assert!(log.contains("done") && !log.contains("WRITTEN"), "{log}");
    for (path, metadata) in before {
        let now = path.metadata().unwrap();
        assert_eq!(
            (now.len(), now.mtime(), now.ino()),
            (metadata.len(), metadata.mtime(), metadata.ino()),
            "{}",
            path.display()
        );
    }
}

fn user_namespace() {
    let space = Space::new("user-namespace");
    space.kubectl.create(&with(
        idle("mapped"),
        &json!({"spec": {"hostUsers": false}}),
    ));
    let runs = eventually("the pod runs, or is refused clearly", || {
        let pod = space.kubectl.get("pod", "mapped");
        if crate::support::kubectl::is_ready(&pod) {
            return Some(true);
        }
        space
            .kubectl
            .ok(&["describe", "pod", "mapped"])
            .contains("user namespace")
            .then_some(false)
    });
    if !runs {
        return;
    }
    let map = space.kubectl.sh("mapped", "id -u; cat /proc/self/uid_map");
    let words: Vec<&str> = map.split_whitespace().collect();
    assert!(
        words[0] == "0" && words[1] == "0" && words[2] != "0" && words[3] == "65536",
        "{map}"
    );
    let _exec = crate::support::kubectl::Follower::new(
        space
            .kubectl
            .spawn(&["exec", "mapped", "--", "sleep", "4321"]),
    );
    let uid = space.kubectl.get("pod", "mapped")["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let owner = eventually("the exec on the host", || {
        let is_exec = |pid: &&i32| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|text| text == "sleep\x004321\0")
        };
        let pids = pids_of_pod(&uid);
        let pid = pids.iter().find(is_exec)?;
        Some(std::fs::metadata(format!("/proc/{pid}")).ok()?.uid())
    });
    assert_eq!(
        owner.to_string(),
        words[2],
        "root inside is this user outside"
    );
}

fn host_namespaces() {
    let space = Space::new("host-namespaces");
    let text = "for n in net pid ipc uts mnt; do readlink /proc/self/ns/$n; done";
    let own = |name: &str| {
        std::fs::read_link(format!("/proc/self/ns/{name}"))
            .unwrap()
            .into_os_string()
            .into_string()
            .unwrap()
    };
    let hosts = ["net", "pid", "ipc", "uts", "mnt"].map(own);
    let apart = space.kubectl.run_pod(&script("apart", text));
    assert!(
        apart
            .lines()
            .zip(&hosts)
            .all(|(inside, outside)| inside != outside),
        "{apart}"
    );
    let all = json!({"spec": {"hostNetwork": true, "hostPID": true, "hostIPC": true}});
    let shared = space.kubectl.run_pod(&with(script("shared", text), &all));
    let inside: Vec<&str> = shared.lines().collect();
    assert_eq!(
        inside[..3],
        hosts[..3],
        "network, processes and shared memory are the host's"
    );
    assert_ne!(inside[4], hosts[4]);
}

fn read_only_root() {
    let space = Space::new("read-only-root");
    let pod = with_container(
        script("fixed", "touch /made || echo refused"),
        &json!({"securityContext": {"readOnlyRootFilesystem": true}}),
    );
    let log = space.kubectl.run_pod(&pod);
    assert!(
        log.contains("Read-only file system") && log.contains("refused"),
        "{log}"
    );
}

//! How containers begin, fail and end: probes, restarts, hooks, limits, grace.

use serde_json::{Value, json};

use crate::Test;
use crate::support::host::pids_of_pod;
use crate::support::objects::{idle, script, with, with_container};
use crate::support::{Space, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("a_failing_liveness_probe_restarts_the_container", liveness),
    ("probes_by_http_and_tcp_reach_the_container", network_probes),
    ("a_container_that_keeps_failing_is_held_back", crash_loop),
    ("on_failure_restarts_only_what_failed", on_failure),
    ("more_memory_than_the_limit_is_an_oom_kill", out_of_memory),
    ("a_termination_message_is_kept", termination_message),
    ("deletion_runs_the_hook_then_sigterm_then_waits", graceful),
    ("a_grace_period_that_runs_out_kills", grace_runs_out),
    ("the_start_hook_runs_before_the_pod_is_ready", post_start),
    ("the_log_of_the_instance_before_is_kept", previous_log),
    ("an_active_deadline_ends_a_pod", deadline),
];

fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn always(pod: Value) -> Value {
    with(pod, &json!({"spec": {"restartPolicy": "Always"}}))
}

fn liveness() {
    let space = Space::new("liveness");
    let probe = json!({"livenessProbe": {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1}});
    space
        .kubectl
        .start_pod(&always(with_container(idle("patient"), &probe)));
    space.kubectl.sh("patient", "touch /tmp/sick");
    let pod = space.kubectl.until("pod", "patient", "restarted", |pod| {
        state(pod)["restartCount"] == 1
    });
    assert!(
        state(&pod)["lastState"]["terminated"].is_object(),
        "{}",
        pod["status"]
    );
    eventually("the event", || {
        let told = space.kubectl.ok(&["describe", "pod", "patient"]);
        (told.contains("Unhealthy") && told.contains("Killing")).then_some(())
    });
    space.kubectl.wait_ready("patient");
}

fn network_probes() {
    let space = Space::new("network-probes");
    let probe = |how: Value| json!({"readinessProbe": with(how, &json!({"periodSeconds": 1}))});
    let serving = || script("web", "exec webserver");
    space.kubectl.start_pod(&with(
        with_container(
            serving(),
            &probe(json!({"httpGet": {"path": "/", "port": 8080}})),
        ),
        &json!({"metadata": {"name": "http"}}),
    ));
    space.kubectl.start_pod(&with(
        with_container(serving(), &probe(json!({"tcpSocket": {"port": 8080}}))),
        &json!({"metadata": {"name": "tcp"}}),
    ));
    assert!(space.kubectl.logs("http").contains("asked for /"));
    let wrong = with_container(serving(), &probe(json!({"tcpSocket": {"port": 8081}})));
    space
        .kubectl
        .create(&with(wrong, &json!({"metadata": {"name": "wrong"}})));
    eventually("the refusal is told", || {
        space
            .kubectl
            .ok(&["describe", "pod", "wrong"])
            .contains("Readiness probe failed: dial tcp")
            .then_some(())
    });
    assert!(!crate::support::kubectl::is_ready(
        &space.kubectl.get("pod", "wrong")
    ));
}

fn crash_loop() {
    let space = Space::new("crash-loop");
    space.kubectl.create(&always(script("crashing", "exit 5")));
    let pod = space.kubectl.until("pod", "crashing", "held back", |pod| {
        state(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    assert_eq!(state(&pod)["lastState"]["terminated"]["exitCode"], 5);
    let message = state(&pod)["state"]["waiting"]["message"].as_str().unwrap();
    assert!(
        message
            .starts_with("back-off 10s restarting failed container=main pod=crashing_crash-loop("),
        "{message}"
    );
    let shown = space.kubectl.ok(&["get", "pod", "crashing"]);
    assert!(shown.contains("CrashLoopBackOff"), "{shown}");
}

fn on_failure() {
    let space = Space::new("on-failure");
    let mut pod = script("two", "exit 0");
    let mut failing = pod["spec"]["containers"][0].clone();
    failing["name"] = json!("failing");
    failing["command"] = json!([
        "sh",
        "-c",
        "test -e /v/again || { touch /v/again; exit 1; }"
    ]);
    failing["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(failing);
    space.kubectl.create(&with(
        pod,
        &json!({"spec": {"restartPolicy": "OnFailure", "volumes": [{"name": "v", "emptyDir": {}}]}}),
    ));
    let pod = space.kubectl.until("pod", "two", "succeeded", |pod| {
        pod["status"]["phase"] == "Succeeded"
    });
    let restarts = |name: &str| {
        let states = pod["status"]["containerStatuses"].as_array().unwrap();
        states.iter().find(|state| state["name"] == name).unwrap()["restartCount"].clone()
    };
    assert_eq!(
        (restarts("main"), restarts("failing")),
        (json!(0), json!(1))
    );
}

fn out_of_memory() {
    let space = Space::new("out-of-memory");
    let limit = json!({"resources": {"limits": {"memory": "16Mi"}}});
    // tail keeps what it may have to print: one line without an end.
    space.kubectl.create(&with_container(
        script("greedy", "exec tail /dev/zero"),
        &limit,
    ));
    let pod = space.kubectl.until("pod", "greedy", "failed", |pod| {
        pod["status"]["phase"] == "Failed"
    });
    let ended = &state(&pod)["state"]["terminated"];
    assert_eq!(
        (&ended["reason"], &ended["exitCode"]),
        (&json!("OOMKilled"), &json!(137)),
        "{ended}"
    );
    assert_eq!(pod["status"]["qosClass"], "Burstable");
}

fn termination_message() {
    let space = Space::new("termination-message");
    space.kubectl.run_pod(&script(
        "speaking",
        "echo -n last words > /dev/termination-log; exit 1",
    ));
    let ended = state(&space.kubectl.get("pod", "speaking"))["state"]["terminated"].clone();
    assert_eq!(ended["message"], "last words", "{ended}");
    let policy = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    space.kubectl.run_pod(&with_container(
        script("logging", "echo from the log; exit 1"),
        &policy,
    ));
    assert_eq!(
        state(&space.kubectl.get("pod", "logging"))["state"]["terminated"]["message"],
        "from the log\n"
    );
}

fn graceful() {
    let space = Space::new("graceful");
    let folder = crate::support::server::work_dir().join("graceful");
    std::fs::create_dir_all(&folder).unwrap();
    let text = "trap 'echo term >> /v/order; sleep 1; echo end >> /v/order; exit 0' TERM; while :; do sleep 1000 & wait; done";
    let more = json!({"spec": {"terminationGracePeriodSeconds": 30, "volumes": [{"name": "v", "hostPath": {"path": folder}}]}});
    let hook = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /v/order"]}}}});
    let pod = space
        .kubectl
        .start_pod(&with_container(with(script("polite", text), &more), &hook));
    space
        .kubectl
        .ok(&["delete", "pod", "polite", "--timeout=60s"]);
    assert_eq!(
        std::fs::read_to_string(folder.join("order")).unwrap(),
        "hook\nterm\nend\n"
    );
    assert!(pids_of_pod(pod["metadata"]["uid"].as_str().unwrap()).is_empty());
}

fn grace_runs_out() {
    let space = Space::new("grace-runs-out");
    let pod = space.kubectl.start_pod(&with(
        script("deaf", "trap '' TERM; while :; do sleep 1; done"),
        &json!({"spec": {"terminationGracePeriodSeconds": 2}}),
    ));
    space
        .kubectl
        .ok(&["delete", "pod", "deaf", "--timeout=30s"]);
    assert!(pids_of_pod(pod["metadata"]["uid"].as_str().unwrap()).is_empty());
    space.kubectl.start_pod(&with(
        script("forced", "trap '' TERM; while :; do sleep 1; done"),
        &json!({"spec": {"terminationGracePeriodSeconds": 300}}),
    ));
    space.kubectl.ok(&[
        "delete",
        "pod",
        "forced",
        "--force",
        "--grace-period=0",
        "--timeout=30s",
    ]);
    assert!(space.kubectl.find("pod", "forced").is_none());
}

fn post_start() {
    let space = Space::new("post-start");
    let hook = json!({"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "sleep 0.5; echo hooked > /tmp/hook"]}}}});
    space
        .kubectl
        .start_pod(&with_container(idle("hooked"), &hook));
    assert_eq!(space.kubectl.sh("hooked", "cat /tmp/hook"), "hooked\n");
}

fn previous_log() {
    let space = Space::new("previous-log");
    let text = "if test -e /v/second; then echo second; sleep 1000; else touch /v/second; echo first; exit 1; fi";
    let pod = with(
        script("twice", text),
        &json!({"spec": {"restartPolicy": "Always", "volumes": [{"name": "v", "emptyDir": {}}]}}),
    );
    space.kubectl.create(&with_container(
        pod,
        &json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
    ));
    space.kubectl.until("pod", "twice", "running again", |pod| {
        state(pod)["restartCount"] == 1 && state(pod)["ready"] == true
    });
    assert_eq!(
        space.kubectl.ok(&["logs", "twice", "--previous"]),
        "first\n"
    );
    eventually("the second log", || {
        (space.kubectl.logs("twice") == "second\n").then_some(())
    });
}

fn deadline() {
    let space = Space::new("deadline");
    space.kubectl.create(&with(
        idle("limited"),
        &json!({"spec": {"activeDeadlineSeconds": 2}}),
    ));
    let pod = space.kubectl.until("pod", "limited", "failed", |pod| {
        pod["status"]["phase"] == "Failed"
    });
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
}

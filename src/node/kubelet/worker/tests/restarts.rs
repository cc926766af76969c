//! What is started again, and when.

use super::*;

#[tokio::test(start_paused = true)]
async fn never_ends_succeeded_or_failed_by_the_exit_code() {
    let world = World::new();
    for (name, code, expected) in [("good", 0, "Succeeded"), ("bad", 3, "Failed")] {
        let uid = world.create(name, one("Never")).await;
        world.until(name, |pod| phase(pod) == "Running").await;
        world.runtime.exit(&uid, "app", code);
        let pod = world.until(name, |pod| phase(pod) == expected).await;
        assert_eq!(
            container(&pod, "app")["state"]["terminated"]["exitCode"],
            code
        );
        assert_eq!(condition(&pod, "Ready")["status"], "False");
    }
}

#[tokio::test(start_paused = true)]
async fn on_failure_restarts_only_what_failed() {
    let world = World::new();
    let spec = json!({"restartPolicy": "OnFailure", "containers": [{"name": "a", "image": "busybox"}, {"name": "b", "image": "busybox"}]});
    let uid = world.create("p", spec).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    world.runtime.exit(&uid, "a", 0);
    world.runtime.exit(&uid, "b", 1);
    let pod = world
        .until("p", |pod| {
            container(pod, "b")["restartCount"] == 1
                && !container(pod, "b")["state"]["running"].is_null()
        })
        .await;
    assert_eq!(container(&pod, "a")["state"]["terminated"]["exitCode"], 0);
    assert_eq!(
        container(&pod, "b")["lastState"]["terminated"]["exitCode"],
        1
    );
    world.runtime.exit(&uid, "b", 0);
    world.until("p", |pod| phase(pod) == "Succeeded").await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_keeps_ending_waits_longer_each_time() {
    let world = World::new();
    let uid = world.create("p", one("Always")).await;
    for restarts in 0..2 {
        world
            .until("p", |pod| {
                container(pod, "app")["restartCount"] == restarts
                    && !container(pod, "app")["state"]["running"].is_null()
            })
            .await;
        world.runtime.exit(&uid, "app", 1);
    }
    let pod = world
        .until("p", |pod| {
            container(pod, "app")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let message = container(&pod, "app")["state"]["waiting"]["message"]
        .as_str()
        .unwrap_or_default();
    assert!(
        message.starts_with("back-off 10s restarting failed container=app pod=p_d("),
        "{message}"
    );
    world
        .until("p", |pod| {
            !container(pod, "app")["state"]["running"].is_null()
        })
        .await;
    world.runtime.exit(&uid, "app", 1);
    world
        .until("p", |pod| {
            container(pod, "app")["state"]["waiting"]["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("back-off 20s"))
        })
        .await;
    assert_eq!(
        container(&pod, "app")["lastState"]["terminated"]["exitCode"],
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_image_replaces_the_running_container() {
    let world = World::new();
    world.create("p", one("Never")).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    world
        .patch(
            "p",
            json!({"spec": {"containers": [{"name": "app", "image": "other:1"}]}}),
        )
        .await;
    let pod = world
        .until("p", |pod| {
            container(pod, "app")["image"] == "other:1"
                && !container(pod, "app")["state"]["running"].is_null()
        })
        .await;
    assert_eq!(container(&pod, "app")["restartCount"], 1);
    assert!(
        world
            .events()
            .iter()
            .any(|event| event == "Killing: Container app definition changed, will be restarted")
    );
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_its_probe_and_liveness_restarts() {
    let world = World::new();
    let healthy = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = Arc::clone(&healthy);
    world.runtime.on_exec(Arc::new(move |_, command| {
        let good = command[0] == "alive" || asked.load(std::sync::atomic::Ordering::Relaxed);
        Ok(cri::ExecOutput {
            exit_code: i32::from(!good),
            stdout: b"why".to_vec(),
            ..Default::default()
        })
    }));
    let spec = json!({"containers": [{"name": "app", "image": "busybox",
        "readinessProbe": {"exec": {"command": ["ready"]}, "periodSeconds": 1},
        "livenessProbe": {"exec": {"command": ["alive"]}, "periodSeconds": 1}}]});
    world.create("p", spec).await;
    let pod = world.until("p", |pod| phase(pod) == "Running").await;
    assert_eq!(
        condition(&pod, "Ready")["message"],
        "containers with unready status: [app]"
    );
    healthy.store(true, std::sync::atomic::Ordering::Relaxed);
    world
        .until("p", |pod| condition(pod, "Ready")["status"] == "True")
        .await;
    assert!(
        world
            .events()
            .iter()
            .any(|event| event == "Unhealthy: Readiness probe failed: why")
    );
    world.runtime.on_exec(Arc::new(|_, _| {
        Ok(cri::ExecOutput {
            exit_code: 1,
            ..Default::default()
        })
    }));
    world
        .until("p", |pod| container(pod, "app")["restartCount"] == 1)
        .await;
    assert!(
        world
            .events()
            .iter()
            .any(|event| event == "Killing: Container app failed liveness probe, will be restarted")
    );
}

#[tokio::test(start_paused = true)]
async fn a_rule_for_an_exit_code_restarts_all_containers_from_the_beginning() {
    let world = World::new();
    let rule = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    let uid = world.create("p", json!({"restartPolicy": "Never", "initContainers": [{"name": "i", "image": "busybox"}],
        "containers": [{"name": "a", "image": "busybox", "restartPolicy": "Never", "restartPolicyRules": rule}, {"name": "b", "image": "busybox"}]})).await;
    world
        .until("p", |pod| {
            !container(pod, "i")["state"]["running"].is_null()
        })
        .await;
    world.runtime.exit(&uid, "i", 0);
    world.until("p", |pod| phase(pod) == "Running").await;
    world.starts();
    world.runtime.exit(&uid, "a", 42);
    world
        .until("p", |pod| {
            !container(pod, "i")["state"]["running"].is_null()
        })
        .await;
    world.runtime.exit(&uid, "i", 0);
    world
        .until("p", |pod| {
            phase(pod) == "Running" && !container(pod, "a")["state"]["running"].is_null()
        })
        .await;
    assert_eq!(world.starts(), ["i", "a", "b"]);
}

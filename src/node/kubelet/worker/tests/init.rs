//! Init containers, sidecars, ephemeral containers and hooks.

use super::*;

#[tokio::test(start_paused = true)]
async fn init_containers_run_one_after_the_other_before_the_rest() {
    let world = World::new();
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i1", "image": "busybox"}, {"name": "i2", "image": "busybox"}],
        "containers": [{"name": "app", "image": "busybox"}]});
    let uid = world.create("p", spec).await;
    let pod = world
        .until("p", |pod| {
            !container(pod, "i1")["state"]["running"].is_null()
        })
        .await;
    assert_eq!(phase(&pod), "Pending");
    assert_eq!(
        container(&pod, "app")["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    assert_eq!(
        condition(&pod, "Initialized")["message"],
        "containers with incomplete status: [i1 i2]"
    );
    world.runtime.exit(&uid, "i1", 0);
    world
        .until("p", |pod| {
            !container(pod, "i2")["state"]["running"].is_null()
        })
        .await;
    world.runtime.exit(&uid, "i2", 0);
    let pod = world.until("p", |pod| phase(pod) == "Running").await;
    assert_eq!(condition(&pod, "Initialized")["status"], "True");
    assert_eq!(world.starts(), ["i1", "i2", "app"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let world = World::new();
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i", "image": "busybox"}], "containers": [{"name": "app", "image": "busybox"}]});
    let uid = world.create("p", spec).await;
    world
        .until("p", |pod| {
            !container(pod, "i")["state"]["running"].is_null()
        })
        .await;
    world.runtime.exit(&uid, "i", 1);
    let pod = world.until("p", |pod| phase(pod) == "Failed").await;
    assert_eq!(
        container(&pod, "app")["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    assert_eq!(world.starts(), ["i"]);
}

#[tokio::test(start_paused = true)]
async fn sidecars_start_first_and_end_when_the_work_is_done() {
    let world = World::new();
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "side", "image": "busybox", "restartPolicy": "Always"}],
        "containers": [{"name": "app", "image": "busybox"}]});
    let uid = world.create("p", spec).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    assert_eq!(world.starts(), ["side", "app"]);
    world.runtime.exit(&uid, "app", 0);
    let pod = world.until("p", |pod| phase(pod) == "Succeeded").await;
    assert!(!container(&pod, "side")["state"]["terminated"].is_null());
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_container_joins_a_running_pod_and_never_restarts() {
    let world = World::new();
    let uid = world.create("p", one("Always")).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    world.patch("p", json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox", "targetContainerName": "app"}]}})).await;
    world
        .until("p", |pod| {
            !container(pod, "debug")["state"]["running"].is_null()
        })
        .await;
    assert!(
        world
            .runtime
            .config_of(&uid, "debug")
            .unwrap()
            .target_container
            .is_some()
    );
    world.runtime.exit(&uid, "debug", 1);
    let pod = world
        .until("p", |pod| {
            !container(pod, "debug")["state"]["terminated"].is_null()
        })
        .await;
    env::sleep(Duration::from_secs(60)).await;
    assert_eq!(phase(&pod), "Running");
    assert_eq!(world.starts(), ["app", "debug"]);
}

#[tokio::test(start_paused = true)]
async fn hooks_run_after_the_start_and_before_the_stop() {
    let world = World::new();
    let said: Arc<parking_lot::Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&said);
    world.runtime.on_exec(Arc::new(move |_, command| {
        heard.lock().push(command[0].clone());
        Ok(cri::ExecOutput::default())
    }));
    let hook = |word: &str| json!({"exec": {"command": [word]}});
    world.create("p", json!({"containers": [{"name": "app", "image": "busybox", "lifecycle": {"postStart": hook("hello"), "preStop": hook("bye")}}]})).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    assert_eq!(*said.lock(), ["hello"]);
    world.delete("p", 30).await;
    world.until_gone("p").await;
    assert_eq!(*said.lock(), ["hello", "bye"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_post_start_hook_stops_the_container_which_then_backs_off() {
    let world = World::new();
    world.runtime.on_exec(Arc::new(|_, _| {
        Ok(cri::ExecOutput {
            exit_code: 1,
            ..Default::default()
        })
    }));
    let hook = json!({"exec": {"command": ["fail"]}});
    world
        .create(
            "p",
            json!({"containers": [{"name": "app", "image": "busybox", "lifecycle": {"postStart": hook}}]}),
        )
        .await;
    // The reason itself gives way to the back-off as soon as the container is due again.
    let waits =
        |pod: &Value| container(pod, "app")["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    world.until("p", waits).await;
    assert!(
        world
            .events()
            .iter()
            .any(|event| event == "FailedPostStartHook: PostStartHook failed")
    );
    assert!(
        world
            .events()
            .iter()
            .any(|event| event == "Killing: FailedPostStartHook")
    );
}

//! The life of a pod, from its first start to its end.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_its_status_says_so() {
    let world = World::new();
    world.create("a", one("Always")).await;
    let pod = world.until("a", |pod| phase(pod) == "Running").await;
    assert_eq!(condition(&pod, "Ready")["status"], "True");
    assert_eq!(
        condition(&pod, "PodReadyToStartContainers")["status"],
        "True"
    );
    assert!(
        pod["status"]["podIP"]
            .as_str()
            .is_some_and(|ip| ip.starts_with("10.42.0."))
    );
    assert_eq!(pod["status"]["hostIP"], "192.168.0.1");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    let app = container(&pod, "app");
    assert!(
        app["containerID"]
            .as_str()
            .is_some_and(|id| id.starts_with("fake://"))
    );
    assert_eq!(
        (&app["ready"], &app["started"], &app["restartCount"]),
        (&json!(true), &json!(true), &json!(0))
    );
    for reason in ["Pulled", "Created", "Started"] {
        assert!(
            world.events().iter().any(|event| event.starts_with(reason)),
            "{reason}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_goes_once_its_containers_have_ended() {
    let world = World::new();
    world.runtime.on_stop("app", OnStop::Exit(143));
    world.create("p", one("Always")).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    world.delete("p", 30).await;
    world.until_gone("p").await;
    assert!(
        world
            .events()
            .iter()
            .any(|event| event == "Killing: Stopping container app")
    );
    let methods: Vec<&str> = world
        .runtime
        .take_calls()
        .iter()
        .map(|call| call.method)
        .collect();
    let at = |method: &str| methods.iter().position(|known| *known == method);
    assert!(at("stop_container") < at("stop_pod_sandbox"));
}

#[tokio::test(start_paused = true)]
async fn a_new_kubelet_adopts_what_runs_and_starts_nothing_twice() {
    let mut world = World::new();
    let uid = world.create("p", one("Always")).await;
    let before = world.until("p", |pod| phase(pod) == "Running").await;
    world.runtime.take_calls();
    world.restart();
    world.runtime.exit(&uid, "app", 7);
    let pod = world
        .until("p", |pod| {
            container(pod, "app")["restartCount"] == 1
                && !container(pod, "app")["state"]["running"].is_null()
        })
        .await;
    assert_eq!(
        container(&pod, "app")["lastState"]["terminated"]["exitCode"],
        7
    );
    assert_eq!(pod["status"]["podIP"], before["status"]["podIP"]);
    assert_eq!(world.starts(), ["app"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_object_is_gone_is_removed_from_the_node() {
    use cri::RuntimeService;
    let mut world = World::new();
    world.create("p", one("Always")).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    world.trigger = None;
    tokio::task::yield_now().await;
    world.delete("p", 0).await;
    world.restart();
    for _ in 0..100 {
        if world.runtime.list_pod_sandboxes().await.unwrap().is_empty() {
            return;
        }
        env::sleep(Duration::from_millis(100)).await;
    }
    panic!("the sandbox of a pod that is gone stays");
}

#[tokio::test(start_paused = true)]
async fn a_lost_sandbox_is_made_anew_with_the_containers_in_it() {
    use cri::RuntimeService;
    let world = World::new();
    world.create("p", one("Always")).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    let sandbox = world.runtime.list_pod_sandboxes().await.unwrap()[0]
        .id
        .clone();
    world.runtime.lose_sandbox(&sandbox);
    world
        .until("p", |pod| {
            container(pod, "app")["restartCount"] == 1
                && condition(pod, "Ready")["status"] == "True"
        })
        .await;
    assert!(
        world
            .events()
            .iter()
            .any(|event| event.starts_with("SandboxChanged"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_only_so_long_to_run() {
    let world = World::new();
    let mut spec = one("Always");
    spec["activeDeadlineSeconds"] = 30.into();
    world.create("p", spec).await;
    let pod = world.until("p", |pod| phase(pod) == "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_pod_out_of_time_has_failed_however_its_containers_end() {
    let world = World::new();
    world.runtime.on_stop("app", OnStop::Exit(0));
    let mut spec = one("Always");
    spec["activeDeadlineSeconds"] = 30.into();
    world.create("p", spec).await;
    let pod = world
        .until("p", |pod| ["Failed", "Succeeded"].contains(&phase(pod)))
        .await;
    assert_eq!(
        (phase(&pod), &pod["status"]["reason"]),
        ("Failed", &"DeadlineExceeded".into())
    );
}

fn manifest(world: &World, image: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: d}}\nspec: {{containers: [{{name: app, image: {image}}}]}}\n"
    );
    std::fs::write(world.directory.path().join("manifests/web.yaml"), text).unwrap();
}

#[tokio::test]
async fn a_static_pod_runs_has_a_mirror_and_follows_its_file() {
    let world = World::new();
    manifest(&world, "busybox");
    let first = world.until("web-n", |pod| phase(pod) == "Running").await;
    assert!(first["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string());
    manifest(&world, "other");
    let second = world
        .until("web-n", |pod| {
            phase(pod) == "Running" && container(pod, "app")["image"] == "other"
        })
        .await;
    assert_ne!(second["metadata"]["uid"], first["metadata"]["uid"]);
    world.delete("web-n", 0).await;
    world
        .until("web-n", |pod| {
            phase(pod) == "Running" && pod["metadata"]["uid"] != second["metadata"]["uid"]
        })
        .await;
    assert_eq!(
        world.starts(),
        ["app", "app"],
        "deleting a mirror ends nothing"
    );
    std::fs::remove_file(world.directory.path().join("manifests/web.yaml")).unwrap();
    world.until_gone("web-n").await;
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_a_pod_that_never_restarts_has_failed_and_another_starts_again() {
    let mut world = World::new();
    let never = world.create("never", one("Never")).await;
    let always = world.create("always", one("Always")).await;
    world.until("never", |pod| phase(pod) == "Running").await;
    world.until("always", |pod| phase(pod) == "Running").await;
    world.trigger = None;
    tokio::task::yield_now().await;
    // A reboot leaves nothing of run-time state.
    let now = Arc::clone(&world.clock);
    world.runtime = FakeRuntime::new(Arc::new(move || now.now()));
    world
        .runtime
        .add_image("busybox:latest", ImageConfig::default());
    world.restart();
    let pod = world.until("never", |pod| phase(pod) == "Failed").await;
    assert_eq!(
        container(&pod, "app")["state"]["terminated"]["reason"],
        "ContainerStatusUnknown"
    );
    let pod = world
        .until("always", |pod| {
            container(pod, "app")["restartCount"] == 1
                && condition(pod, "Ready")["status"] == "True"
        })
        .await;
    assert_eq!(
        container(&pod, "app")["lastState"]["terminated"]["exitCode"],
        137
    );
    assert_eq!(world.starts(), ["app"]);
    assert_ne!(never, always);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_fails_with_the_reason_and_is_said_to_be_disrupted() {
    let world = World::new();
    let uid = world.create("p", one("Always")).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    let eviction = crate::pods::Eviction {
        reason: "Evicted".into(),
        message: "The node was low on resource: memory. ".into(),
        grace_seconds: Some(0),
        disruption: Some("TerminationByKubelet"),
    };
    world
        .kubelet
        .services
        .pods_table
        .get(&uid)
        .unwrap()
        .inputs
        .evict(eviction);
    let pod = world.until("p", |pod| phase(pod) == "Failed").await;
    assert_eq!(pod["status"]["reason"], "Evicted");
    assert_eq!(
        condition(&pod, "DisruptionTarget")["reason"],
        "TerminationByKubelet"
    );
}

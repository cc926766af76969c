//! What a container needs before it starts, and what it gets.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_pull_that_fails_backs_off_and_says_why() {
    let world = World::new();
    for _ in 0..2 {
        world
            .runtime
            .fail_next("pull_image", cri::Error::ImagePull("no such image".into()));
    }
    world
        .create(
            "p",
            json!({"containers": [{"name": "app", "image": "missing"}]}),
        )
        .await;
    let pod = world
        .until("p", |pod| {
            container(pod, "app")["state"]["waiting"]["reason"] == "ErrImagePull"
        })
        .await;
    assert_eq!(
        container(&pod, "app")["state"]["waiting"]["message"],
        "no such image"
    );
    let pod = world
        .until("p", |pod| {
            container(pod, "app")["state"]["waiting"]["reason"] == "ImagePullBackOff"
        })
        .await;
    assert_eq!(
        container(&pod, "app")["state"]["waiting"]["message"],
        "Back-off pulling image \"missing:latest\": ErrImagePull: no such image"
    );
    world.until("p", |pod| phase(pod) == "Running").await;
    assert!(
        world
            .events()
            .iter()
            .any(|event| event == "Failed: Failed to pull image \"missing:latest\": no such image")
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_registry_an_image_that_is_there_is_used_and_one_that_is_not_fails() {
    let world = World::new();
    let gone = || cri::Error::RegistryUnavailable("no route to host".into());
    world.runtime.add_image("here:1", ImageConfig::default());
    let always = |image: &str| json!({"containers": [{"name": "app", "image": image, "imagePullPolicy": "Always"}]});
    world.runtime.fail_next("pull_image", gone());
    world.create("p", always("here:1")).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    let told = "RegistryUnavailable: Image \"here:1\" is used as this machine has it, which may be an older one: no registry answers: no route to host";
    assert!(
        world.events().iter().any(|event| event == told),
        "{:?}",
        world.events()
    );
    // A registry that says no is believed.
    world
        .runtime
        .fail_next("pull_image", cri::Error::ImagePull("denied".into()));
    world.create("q", always("here:1")).await;
    let refused =
        |pod: &Value| container(pod, "app")["state"]["waiting"]["reason"] == "ErrImagePull";
    world.until("q", refused).await;
    world.runtime.fail_next("pull_image", gone());
    world.create("r", always("missing:1")).await;
    world.until("r", refused).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_fit_fails_with_the_reason() {
    let world = World::new();
    world
        .create(
            "p",
            json!({"containers": [{"name": "app", "image": "busybox", "resources": {"requests": {"cpu": "5"}}}]}),
        )
        .await;
    let pod = world.until("p", |pod| phase(pod) == "Failed").await;
    assert_eq!(pod["status"]["reason"], "OutOfcpu");
    assert!(world.starts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn resources_change_in_place_without_a_restart() {
    let world = World::new();
    let with = |cpu: &str| json!([{"name": "app", "image": "busybox", "resources": {"requests": {"cpu": cpu}}}]);
    world.create("p", json!({"containers": with("100m")})).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    world
        .patch("p", json!({"spec": {"containers": with("200m")}}))
        .await;
    let pod = world
        .until("p", |pod| {
            container(pod, "app")["resources"]["requests"]["cpu"] == "200m"
                && condition(pod, "PodResizeInProgress").is_null()
        })
        .await;
    assert_eq!(container(&pod, "app")["restartCount"], 0);
    assert_eq!(container(&pod, "app")["allocatedResources"]["cpu"], "200m");
    world
        .patch("p", json!({"spec": {"containers": with("9")}}))
        .await;
    let pod = world
        .until("p", |pod| {
            condition(pod, "PodResizePending")["reason"] == "Infeasible"
        })
        .await;
    assert_eq!(
        container(&pod, "app")["resources"]["requests"]["cpu"],
        "200m"
    );
}

#[tokio::test(start_paused = true)]
async fn what_this_node_cannot_do_holds_the_pod_with_the_reason() {
    let world = World::new();
    world
        .create(
            "p",
            json!({"containers": [{"name": "app", "image": "busybox"}], "resourceClaims": [{"name": "gpu"}]}),
        )
        .await;
    let pod = world
        .until("p", |pod| {
            container(pod, "app")["state"]["waiting"]["reason"] == "UnsupportedFeature"
        })
        .await;
    assert!(
        container(&pod, "app")["state"]["waiting"]["message"]
            .as_str()
            .unwrap_or_default()
            .contains("spec.resourceClaims")
    );
    assert!(world.starts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_config_map_reaches_variables_and_volumes_and_a_change_reaches_the_volume() {
    let world = World::new();
    let maps = world
        .api
        .client()
        .api::<k8s_openapi::api::core::v1::ConfigMap>("d");
    let map = |value: &str| {
        serde_json::from_value(
            json!({"metadata": {"name": "m", "namespace": "d"}, "data": {"k": value}}),
        )
        .unwrap()
    };
    maps.create(&map("one")).await.unwrap();
    let uid = world
        .create(
            "p",
            json!({
        "containers": [{"name": "app", "image": "busybox", "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]}],
        "volumes": [{"name": "v", "configMap": {"name": "m"}}]}),
        )
        .await;
    world.until("p", |pod| phase(pod) == "Running").await;
    let config = world.runtime.config_of(&uid, "app").unwrap();
    assert!(config.env.contains(&("K".to_owned(), "one".to_owned())));
    let file = config
        .mounts
        .iter()
        .find(|mount| mount.container_path.ends_with("v"))
        .unwrap()
        .host_path
        .join("k");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    maps.patch("m", &Patch::Merge(json!({"data": {"k": "two"}})))
        .await
        .unwrap();
    for _ in 0..1000 {
        if std::fs::read_to_string(&file).unwrap() == "two" {
            return;
        }
        env::sleep(Duration::from_millis(10)).await;
    }
    panic!("the change does not reach the volume");
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_holds_the_container_until_it_is_there() {
    let world = World::new();
    world
        .create(
            "p",
            json!({"containers": [{"name": "app", "image": "busybox",
        "env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]}]}),
        )
        .await;
    let pod = world
        .until("p", |pod| {
            container(pod, "app")["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        })
        .await;
    assert_eq!(
        container(&pod, "app")["state"]["waiting"]["message"],
        "configmap \"m\" not found"
    );
    let map = serde_json::from_value(
        json!({"metadata": {"name": "m", "namespace": "d"}, "data": {"k": "v"}}),
    )
    .unwrap();
    world
        .api
        .client()
        .api::<k8s_openapi::api::core::v1::ConfigMap>("d")
        .create(&map)
        .await
        .unwrap();
    world.until("p", |pod| phase(pod) == "Running").await;
}

#[tokio::test(start_paused = true)]
async fn the_sandbox_and_the_container_get_what_the_spec_says() {
    let world = World::new();
    let uid = world.create("p", json!({"hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x"]}],
        "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
        "containers": [{"name": "app", "image": "busybox", "command": ["run", "$(A)"], "env": [{"name": "A", "value": "1"}],
            "terminationMessagePath": "/dev/termination-log", "resources": {"limits": {"memory": "64Mi"}}}]})).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    let config = world.runtime.config_of(&uid, "app").unwrap();
    assert_eq!(config.command, ["run", "1"]);
    assert_eq!(config.security.user, cri::RunAsUser::Uid(1000));
    assert_eq!(config.security.supplemental_groups, [2000]);
    assert_eq!(config.resources.memory_limit, Some(64 << 20));
    let host_path = |path: &str| {
        config
            .mounts
            .iter()
            .find(|mount| mount.container_path.to_str() == Some(path))
            .unwrap()
            .host_path
            .clone()
    };
    let hosts = std::fs::read_to_string(host_path("/etc/hosts")).unwrap();
    assert!(hosts.contains("\th.s.d.svc.cluster.local\th\n"), "{hosts}");
    assert!(hosts.ends_with("1.2.3.4\tx\n"));
    std::fs::write(host_path("/dev/termination-log"), "last words").unwrap();
    world.runtime.exit(&uid, "app", 1);
    let pod = world
        .until("p", |pod| container(pod, "app")["restartCount"] == 1)
        .await;
    assert_eq!(
        container(&pod, "app")["lastState"]["terminated"]["message"],
        "last words"
    );
}

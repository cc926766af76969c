//! A node that lost its power and finds no server: each test names a rule of what it does.

use std::time::Duration;

use cri::RuntimeService as _;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube_client::Patch;
use kube_client::fake::LineState;
use serde_json::{Value, json};

use crate::worker::tests::{World, container, one, phase};

/// Of paused time.
const DEADLINE: Duration = Duration::from_secs(300);

impl World {
    /// The pod as the node itself has it.
    fn local(&self, name: &str) -> Option<Value> {
        let all = crate::server::pod_list(&self.kubelet);
        let items = all["items"].as_array()?;
        let found = items.iter().find(|pod| pod["metadata"]["name"] == name);
        found.cloned()
    }

    /// Waits until the node's own word of a pod fits.
    async fn until_local(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let reached = async {
            loop {
                if let Some(pod) = self.local(name).filter(|pod| holds(pod)) {
                    return pod;
                }
                env::sleep(Duration::from_millis(100)).await;
            }
        };
        let found = env::timeout(DEADLINE, reached).await;
        found.unwrap_or_else(|_| panic!("{:#}", self.local(name).unwrap_or_default()["status"]))
    }

    /// Containers that run.
    async fn running(&self) -> usize {
        let filter = cri::ContainerFilter::default();
        let all = self.runtime.list_containers(&filter).await;
        let runs = |status: &&cri::ContainerStatus| {
            matches!(status.state, cri::ContainerState::Running { .. })
        };
        all.expect("the runtime tells").iter().filter(runs).count()
    }

    async fn run(&self, name: &str, spec: Value) -> String {
        let uid = self.create(name, spec).await;
        self.until(name, |pod| phase(pod) == "Running").await;
        // So long that what is written later is written.
        env::sleep(Duration::from_secs(10)).await;
        uid
    }
}

#[tokio::test(start_paused = true)]
async fn pods_run_within_seconds_of_a_start_without_a_server_and_go_on_when_it_is_back() {
    for line in [LineState::Silent, LineState::Refusing] {
        let mut world = World::with_memory();
        let uid = world.run("a", one("Always")).await;
        world.reboot(line).await;
        let running = world.until_local("a", |pod| phase(pod) == "Running");
        let pod = env::timeout(Duration::from_secs(5), running).await;
        assert_eq!(pod.expect("in time")["metadata"]["uid"], uid.as_str());
        assert_eq!(world.starts(), ["app"]);
        // It restarts what dies.
        world.runtime.exit(&uid, "app", 1);
        world
            .until_local("a", |pod| container(pod, "app")["restartCount"] == 2)
            .await;
        assert_eq!(world.starts(), ["app"]);
        world.line.set(LineState::Up);
        world
            .until("a", |pod| container(pod, "app")["restartCount"] == 2)
            .await;
        env::sleep(Duration::from_secs(120)).await;
        assert!(
            world.starts().is_empty(),
            "nothing is started for the server's sake"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_finished_is_not_run_again_although_the_server_never_heard_of_it() {
    let mut world = World::with_memory();
    let uid = world.run("job", one("OnFailure")).await;
    world.line.set(LineState::Silent);
    world.runtime.exit(&uid, "app", 0);
    world
        .until_local("job", |pod| phase(pod) == "Succeeded")
        .await;
    world.reboot(LineState::Silent).await;
    world
        .until_local("job", |pod| phase(pod) == "Succeeded")
        .await;
    world.line.set(LineState::Up);
    let pod = world.until("job", |pod| phase(pod) == "Succeeded").await;
    assert_eq!(container(&pod, "app")["state"]["terminated"]["exitCode"], 0);
    assert!(world.starts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_runs_once_fails_if_the_power_did_while_it_ran() {
    let mut world = World::with_memory();
    let uid = world.create("once", one("Never")).await;
    world
        .until_local("once", |pod| phase(pod) == "Running")
        .await;
    world.line.set(LineState::Silent);
    world.reboot(LineState::Silent).await;
    let pod = world
        .until_local("once", |pod| phase(pod) == "Failed")
        .await;
    assert_eq!(pod["metadata"]["uid"], uid.as_str());
    assert!(world.starts().is_empty());
    world.line.set(LineState::Up);
    world.until("once", |pod| phase(pod) == "Failed").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_being_deleted_is_not_started() {
    let mut world = World::with_memory();
    let spec = json!({"terminationGracePeriodSeconds": 3000, "containers": [{"name": "app", "image": "busybox"}]});
    world.run("a", spec).await;
    world.runtime.on_stop("app", cri::fake::OnStop::Ignore);
    world.line.set(LineState::Up);
    world.delete("a", 3000).await;
    env::sleep(Duration::from_secs(10)).await;
    world.reboot(LineState::Silent).await;
    env::sleep(Duration::from_secs(60)).await;
    assert!(world.starts().is_empty());
    world.line.set(LineState::Up);
    world.until_gone("a").await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_left_alone_until_a_server_says_that_nobody_wants_it() {
    let mut world = World::with_memory();
    world.run("a", one("Always")).await;
    let records = world.records.clone().expect("a memory");
    records.flush().await;
    for name in records.names("") {
        records.remove(&name);
    }
    // The kubelet begins again, remembers nothing, and the pod runs on.
    world.begin_again(LineState::Silent).await;
    env::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.running().await, 1);
    world.line.set(LineState::Up);
    world.until_local("a", |pod| phase(pod) == "Running").await;
    assert!(world.starts().len() <= 1);
    assert_eq!(world.running().await, 1);
}

#[tokio::test(start_paused = true)]
async fn secrets_and_tokens_are_there_without_a_server_and_new_ones_come_with_it() {
    let mut world = World::with_memory();
    let api = world.api.client();
    let secret = json!({"metadata": {"name": "s", "namespace": "d"}, "data": {"key": "b2xk"}});
    let secret: Secret = serde_json::from_value(secret).expect("a secret");
    api.api::<Secret>("d")
        .create(&secret)
        .await
        .expect("created");
    let account = json!({"metadata": {"name": "default", "namespace": "d"}});
    let account: ServiceAccount = serde_json::from_value(account).expect("an account");
    api.api::<ServiceAccount>("d")
        .create(&account)
        .await
        .expect("created");
    let spec = json!({
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
        "containers": [{"name": "app", "image": "busybox", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]
    });
    let uid = world.run("a", spec).await;
    let contents = |world: &World| {
        let directory = world.kubelet.services.config.pod_directory(&uid);
        std::fs::read_to_string(directory.join("volumes/kubernetes.io~secret/v/key")).ok()
    };
    assert_eq!(contents(&world).as_deref(), Some("old"));
    // Volumes of secrets are in memory, and gone with the power.
    let torn_down = world.kubelet.services.volumes.tear_down(&uid).await;
    torn_down.expect("the volumes go");
    world.reboot(LineState::Silent).await;
    let patch = Patch::Merge(json!({"data": {"key": "bmV3"}}));
    api.api::<Secret>("d")
        .patch("s", &patch)
        .await
        .expect("patched");
    world.until_local("a", |pod| phase(pod) == "Running").await;
    assert_eq!(contents(&world).as_deref(), Some("old"));
    world.line.set(LineState::Up);
    let fresh = async {
        while contents(&world).as_deref() != Some("new") {
            env::sleep(Duration::from_millis(100)).await;
        }
    };
    env::timeout(DEADLINE, fresh)
        .await
        .expect("the new secret comes");
    assert_eq!(world.starts(), ["app"]);
    let torn_down = world.kubelet.services.volumes.tear_down(&uid).await;
    torn_down.expect("the volumes go");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_takes_away_what_was_deleted_and_brings_what_came() {
    let mut world = World::with_memory();
    for name in ["stays", "goes"] {
        world.run(name, one("Always")).await;
    }
    world.reboot(LineState::Silent).await;
    world
        .until_local("goes", |pod| phase(pod) == "Running")
        .await;
    world
        .until_local("stays", |pod| phase(pod) == "Running")
        .await;
    world.delete("goes", 0).await;
    world.create("comes", one("Always")).await;
    world.starts();
    world.line.set(LineState::Up);
    world.until("comes", |pod| phase(pod) == "Running").await;
    world.until_gone("goes").await;
    assert_eq!(world.starts(), ["app"]);
    let gone = async {
        while world.local("goes").is_some() {
            env::sleep(Duration::from_millis(100)).await;
        }
    };
    env::timeout(DEADLINE, gone)
        .await
        .expect("it ends here too");
}

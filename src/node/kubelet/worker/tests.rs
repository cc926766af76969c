//! Pods on the fake runtime: each test names a rule of the worker.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersionResource, ObjectKey, Quantity};
use cri::fake::{FakeRuntime, OnStop};
use cri::{ContainerState, ContainerStatus, ImageConfig};
use env::{Clock, SeededRng, Shutdown, ShutdownTrigger, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube_client::fake::{FakeApi, FakeLine, LineState};
use kube_client::{DeleteOptions, Patch};
use sealed_files::{Records, SealedFolder};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{Capacity, Config, Kubelet, Parts};

/// A running container of a name, for pure tests.
pub(crate) fn running(name: &str) -> ContainerStatus {
    ContainerStatus {
        id: cri::ContainerId(name.to_owned()),
        sandbox: cri::PodSandboxId("s".to_owned()),
        pod_uid: "u".to_owned(),
        name: name.to_owned(),
        attempt: 0,
        image: String::new(),
        image_id: cri::ImageId::default(),
        created_at: Timestamp::UNIX_EPOCH,
        state: ContainerState::Running {
            started_at: Timestamp::UNIX_EPOCH,
        },
        pid: None,
        user: None,
        log_path: std::path::PathBuf::new(),
        resources: cri::LinuxResources::default(),
        stop_signal: String::new(),
        mounts: Vec::new(),
        labels: Default::default(),
        annotations: Default::default(),
    }
}

/// Wall and monotonic time that follow tokio's paused clock.
#[derive(Debug)]
struct PausedClock {
    start: tokio::time::Instant,
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000).saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A kubelet on a fake runtime and a fake API, in time that stands still unless everybody waits.
pub(crate) struct World {
    pub(crate) api: Arc<FakeApi>,
    pub(crate) runtime: FakeRuntime,
    pub(crate) kubelet: Kubelet,
    pub(crate) line: FakeLine,
    /// What the kubelet remembers, if it is one that does.
    pub(crate) records: Option<Records>,
    boot: u32,
    clock: Arc<dyn Clock>,
    directory: tempfile::TempDir,
    trigger: Option<ShutdownTrigger>,
}

fn pods() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "pods")
}

impl World {
    pub(crate) fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(PausedClock {
            start: tokio::time::Instant::now(),
        });
        Self::begin(clock, false)
    }

    /// With a kubelet that remembers what it needs to go on without a server.
    pub(crate) fn with_memory() -> Self {
        let start = tokio::time::Instant::now();
        Self::begin(Arc::new(PausedClock { start }), true)
    }

    fn begin(clock: Arc<dyn Clock>, remembers: bool) -> Self {
        let api = FakeApi::new(Arc::clone(&clock));
        let runtime = empty_runtime(&clock);
        let directory = tempfile::tempdir().expect("a directory");
        let line = FakeLine::new(Arc::clone(&api) as _, LineState::Up);
        let records = remembers.then(|| open_records(directory.path()));
        let life = (records.as_ref(), 0);
        let (kubelet, trigger) = start(&line, &runtime, &clock, directory.path(), life);
        Self {
            api,
            runtime,
            kubelet,
            line,
            records,
            boot: 0,
            clock,
            directory,
            trigger: Some(trigger),
        }
    }

    /// The machine loses its power and comes back: nothing runs, and the runtime knows of nothing.
    pub(crate) async fn reboot(&mut self, line: LineState) {
        self.runtime = empty_runtime(&self.clock);
        self.boot += 1;
        self.begin_again(line).await;
    }

    /// The kubelet ends and another one begins, which remembers what the first did; containers run on.
    pub(crate) async fn begin_again(&mut self, line: LineState) {
        if let Some(records) = self.records.take() {
            records.flush().await;
        }
        self.trigger = None;
        env::sleep(Duration::from_millis(1)).await;
        self.line = FakeLine::new(Arc::clone(&self.api) as _, line);
        self.records = Some(open_records(self.directory.path()));
        let life = (self.records.as_ref(), self.boot);
        let (kubelet, trigger) = start(
            &self.line,
            &self.runtime,
            &self.clock,
            self.directory.path(),
            life,
        );
        self.kubelet = kubelet;
        self.trigger = Some(trigger);
    }

    /// The kubelet ends and another one begins; runtime and API stay.
    pub(crate) fn restart(&mut self) {
        self.trigger = None;
        let life = (self.records.as_ref(), self.boot);
        let directory = self.directory.path();
        let (kubelet, trigger) = start(&self.line, &self.runtime, &self.clock, directory, life);
        self.kubelet = kubelet;
        self.trigger = Some(trigger);
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) -> String {
        let mut spec = spec;
        spec["nodeName"] = "n".into();
        let pod = json!({"metadata": {"name": name, "namespace": "d"}, "spec": spec, "status": {"phase": "Pending"}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let made = self
            .api
            .client()
            .api::<Pod>("d")
            .create(&pod)
            .await
            .expect("created");
        made.metadata.uid.expect("a uid")
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Value> {
        let object = self
            .api
            .object(&pods(), &ObjectKey::namespaced("d", name))?;
        Some(object.into_value())
    }

    /// Waits until the API shows a pod for which `holds`; fails after an hour of paused time.
    pub(crate) async fn until(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let reached = self
            .api
            .until(|_| self.pod(name).is_some_and(|pod| holds(&pod)));
        assert!(
            env::timeout(Duration::from_secs(3600), reached)
                .await
                .is_ok(),
            "the pod stays as it is: {:#}\nevents: {:#?}",
            self.pod(name).unwrap_or_default()["status"],
            self.events()
        );
        self.pod(name).expect("it was just there")
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        let gone = self.api.until(|_| self.pod(name).is_none());
        env::timeout(Duration::from_secs(3600), gone)
            .await
            .expect("the pod goes");
    }

    pub(crate) async fn delete(&self, name: &str, grace: i64) {
        let options = DeleteOptions {
            grace_period_seconds: Some(grace),
            ..DeleteOptions::default()
        };
        self.api
            .client()
            .api::<Pod>("d")
            .delete(name, &options)
            .await
            .expect("deleted");
    }

    pub(crate) fn starts(&self) -> Vec<String> {
        let calls = self.runtime.take_calls();
        calls
            .into_iter()
            .filter(|call| call.method == "start_container")
            .map(|call| call.subject)
            .collect()
    }

    /// `reason: message` of the events so far.
    pub(crate) fn events(&self) -> Vec<String> {
        let all = self
            .api
            .objects(&GroupVersionResource::new("", "v1", "events"));
        all.iter()
            .map(|event| {
                format!(
                    "{}: {}",
                    event.text_at(&["reason"]),
                    event.text_at(&["message"])
                )
            })
            .collect()
    }

    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        self.api
            .client()
            .api::<Pod>("d")
            .patch(name, &Patch::Merge(patch))
            .await
            .expect("patched");
    }
}

fn empty_runtime(clock: &Arc<dyn Clock>) -> FakeRuntime {
    let now = Arc::clone(clock);
    let runtime = FakeRuntime::new(Arc::new(move || now.now()));
    runtime.add_image("busybox:latest", ImageConfig::default());
    runtime
}

fn open_records(directory: &std::path::Path) -> Records {
    let path = directory.join("memory");
    let folder = SealedFolder::open(&path, b"key", SeededRng::shared(1)).expect("a folder");
    Records::open(folder, Box::new(|| {})).expect("records")
}

fn start(
    line: &FakeLine,
    runtime: &FakeRuntime,
    clock: &Arc<dyn Clock>,
    directory: &std::path::Path,
    (records, boot): (Option<&Records>, u32),
) -> (Kubelet, ShutdownTrigger) {
    let mut config = Config::new("n", directory);
    config.node_addresses = watch::channel(vec!["192.168.0.1".parse().expect("an address")]).1;
    let manifests = directory.join("manifests");
    std::fs::create_dir_all(&manifests).expect("a folder");
    config.manifests_directory = Some(manifests);
    // The machine the tests run on may be short of something.
    config.eviction = crate::Thresholds {
        memory_available_bytes: 0,
        nodefs_available_percent: 0,
        nodefs_inodes_free_percent: 0,
        imagefs_available_percent: 0,
        pids_available_percent: 0,
    };
    config.cluster_dns = vec!["10.43.0.10".parse().expect("an address")];
    let amounts = |list: &[(&str, &str)]| -> semantics::resources::Amounts {
        list.iter()
            .map(|(name, amount)| {
                (
                    (*name).to_owned(),
                    Quantity::parse(amount).expect("a quantity"),
                )
            })
            .collect()
    };
    let has = amounts(&[("cpu", "4"), ("memory", "8Gi"), ("pods", "110")]);
    let rng = SeededRng::shared(1);
    config.boot_id = format!("boot-{boot}");
    let client = line.client();
    let factory = match records {
        Some(records) => {
            let memory = informer::Memory::new(records.clone(), crate::kept_on_a_node("n"));
            informer::Factory::with_memory(client.clone(), Arc::clone(&rng), memory)
        }
        None => informer::Factory::new(client.clone(), Arc::clone(&rng)),
    };
    let kubelet = Kubelet::new(Parts {
        config,
        capacity: Capacity {
            capacity: has.clone(),
            allocatable: has,
        },
        runtime: Arc::new(runtime.clone()),
        images: Arc::new(runtime.clone()),
        factory,
        client,
        clock: Arc::clone(clock),
        rng,
    })
    .expect("a root directory");
    let (trigger, shutdown) = Shutdown::new();
    env::spawn(kubelet.clone().run(shutdown));
    (kubelet, trigger)
}

pub(crate) fn one(restart_policy: &str) -> Value {
    json!({"restartPolicy": restart_policy, "containers": [{"name": "app", "image": "busybox"}]})
}

pub(crate) fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .and_then(|all| all.iter().find(|condition| condition["type"] == kind))
        .unwrap_or(&Value::Null)
}

pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let all = lists
        .iter()
        .filter_map(|list| pod["status"][*list].as_array())
        .flatten();
    all.into_iter()
        .find(|status| status["name"] == name)
        .unwrap_or(&Value::Null)
}

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
async fn the_node_registers_with_labels_addresses_and_a_lease_and_keeps_foreign_capacity() {
    let world = World::new();
    let nodes = GroupVersionResource::new("", "v1", "nodes");
    let leases = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
    let ready = |api: &FakeApi| {
        api.object(&nodes, &ObjectKey::cluster("n"))
            .is_some_and(|node| node.text_at(&["status", "capacity", "cpu"]) == "4")
    };
    world.api.until(ready).await;
    world
        .api
        .until(|api| {
            api.object(&leases, &ObjectKey::namespaced("kube-node-lease", "n"))
                .is_some()
        })
        .await;
    let node = world.api.object(&nodes, &ObjectKey::cluster("n")).unwrap();
    assert_eq!(node.label("kubernetes.io/hostname"), Some("n"));
    assert_eq!(
        node.at(&["status", "addresses"]).unwrap()[0],
        json!({"type": "InternalIP", "address": "192.168.0.1"})
    );
    let foreign = Patch::Merge(json!({"status": {"capacity": {"example.com/foo": "3"}}}));
    world
        .api
        .client()
        .api::<k8s_openapi::api::core::v1::Node>("")
        .patch_status("n", &foreign)
        .await
        .unwrap();
    env::sleep(Duration::from_secs(700)).await;
    let node = world.api.object(&nodes, &ObjectKey::cluster("n")).unwrap();
    assert_eq!(
        node.text_at(&["status", "capacity", "example.com/foo"]),
        "3"
    );
    let lease = world
        .api
        .object(&leases, &ObjectKey::namespaced("kube-node-lease", "n"))
        .unwrap();
    assert!(
        lease
            .text_at(&["spec", "renewTime"])
            .starts_with("2027-01-15T08:11:")
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

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

mod init;
mod life;
mod node;
mod restarts;
mod start;

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

//! A runtime in memory with behaviour: its containers run, exit, answer execs and log on command of a test.
//!
//! It keeps the border's rules (states, events in order, not-found, idempotent removal), starts no process, and
//! counts calls by name, so that a test can say "nothing more was done".

use crate::{
    Attachment, ByteStream, ContainerConfig, ContainerEvent, ContainerEventKind, ContainerEvents,
    ContainerFilter, ContainerId, ContainerState, ContainerStats, ContainerStatus, CpuUsage, Error,
    ExecOutput, ExecRequest, ExecSession, ExitReason, FilesystemUsage, Image, ImageConfig,
    ImageFilesystems, ImageId, ImageService, ImageSpec, LinuxResources, MemoryUsage, NamespaceMode,
    PodSandbox, PodSandboxConfig, PodSandboxId, PodSandboxState, PodSandboxStats, ProcessUsage,
    PullAuth, ReopenLog, Result, RootFs, RuntimeService, RuntimeVersion,
};
use async_trait::async_trait;
use env::Timestamp;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Events a slow receiver may be behind.
const EVENTS_MAX: usize = 1024;

/// Answers an exec: command in, output and exit code out.
pub type ExecHandler = Arc<dyn Fn(&str, &[String]) -> Result<ExecOutput> + Send + Sync>;
/// Tells the time; tests give their own clock.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The runtime and the image service of a test.
#[derive(Clone)]
pub struct FakeRuntime {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<ContainerEvent>,
    now: Now,
}

/// What a container does when its stop signal arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// It exits at once with this code.
    Exit(i32),
    /// It ignores the signal and is killed (137) at the end of the grace period, which the fake does not wait for.
    Ignore,
}

/// One call that was made, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method's name, for example `start_container`.
    pub method: &'static str,
    /// The container's name, the pod's name or the image.
    pub subject: String,
}

struct State {
    sandboxes: BTreeMap<PodSandboxId, PodSandbox>,
    log_directories: BTreeMap<PodSandboxId, PathBuf>,
    containers: BTreeMap<ContainerId, Container>,
    images: BTreeMap<ImageId, Image>,
    failures: BTreeMap<&'static str, VecDeque<Error>>,
    on_stop: BTreeMap<String, OnStop>,
    calls: Vec<Call>,
    exec: ExecHandler,
    ids: u64,
}

struct Container {
    config: ContainerConfig,
    status: ContainerStatus,
}

impl FakeRuntime {
    /// An empty runtime; every exec succeeds with no output.
    pub fn new(now: Now) -> FakeRuntime {
        FakeRuntime {
            state: Arc::new(Mutex::new(State {
                sandboxes: BTreeMap::new(),
                log_directories: BTreeMap::new(),
                containers: BTreeMap::new(),
                images: BTreeMap::new(),
                failures: BTreeMap::new(),
                on_stop: BTreeMap::new(),
                calls: Vec::new(),
                exec: Arc::new(|_, _| Ok(ExecOutput::default())),
                ids: 0,
            })),
            events: broadcast::channel(EVENTS_MAX).0,
            now,
        }
    }

    /// Puts an image into the store.
    pub fn add_image(&self, reference: &str, config: ImageConfig) -> ImageId {
        let id = image_id(reference);
        let image = Image {
            id: id.clone(),
            repo_tags: vec![reference.to_owned()],
            repo_digests: vec![format!("{reference}@{id}")],
            size_bytes: 1024,
            config,
            pinned: false,
        };
        self.state.lock().images.insert(id.clone(), image);
        id
    }

    /// The next call of `method` fails with `error`; several failures queue up.
    pub fn fail_next(&self, method: &'static str, error: Error) {
        self.state
            .lock()
            .failures
            .entry(method)
            .or_default()
            .push_back(error);
    }

    /// What containers of this name do when stopped; without it they exit with 0.
    pub fn on_stop(&self, container_name: &str, behaviour: OnStop) {
        self.state
            .lock()
            .on_stop
            .insert(container_name.to_owned(), behaviour);
    }

    /// Answers execs from now on. The first argument is the container's name.
    pub fn on_exec(&self, handler: ExecHandler) {
        self.state.lock().exec = handler;
    }

    /// The newest container of this name in the pod ends.
    ///
    /// Panics when there is none running: a mistake in the test.
    pub fn exit(&self, pod_uid: &str, container_name: &str, code: i32) {
        let reason = if code == 0 {
            ExitReason::Completed
        } else {
            ExitReason::Error
        };
        self.exit_with(pod_uid, container_name, code, reason);
    }

    /// As [`FakeRuntime::exit`], with a reason of its own (`OomKilled`, …).
    pub fn exit_with(&self, pod_uid: &str, container_name: &str, code: i32, reason: ExitReason) {
        let id = self
            .newest(pod_uid, container_name, |status| {
                matches!(status.state, ContainerState::Running { .. })
            })
            .expect("a running container of that name");
        self.end(&id, code, reason);
    }

    /// The configuration the newest container of this name was created with.
    pub fn config_of(&self, pod_uid: &str, container_name: &str) -> Option<ContainerConfig> {
        let id = self.newest(pod_uid, container_name, |_| true)?;
        Some(self.state.lock().containers.get(&id)?.config.clone())
    }

    /// The sandbox loses its namespaces, and its containers end with unknown codes.
    pub fn lose_sandbox(&self, sandbox: &PodSandboxId) {
        let running: Vec<ContainerId> = self.running_in(sandbox);
        for id in running {
            self.end(&id, 255, ExitReason::Unknown);
        }
        let uid = {
            let mut state = self.state.lock();
            let Some(found) = state.sandboxes.get_mut(sandbox) else {
                return;
            };
            found.state = PodSandboxState::NotReady;
            found.pod.uid.clone()
        };
        self.emit(sandbox.clone(), uid, None, ContainerEventKind::SandboxLost);
    }

    /// The calls so far, and forgets them.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state.lock().calls)
    }

    fn newest(
        &self,
        pod_uid: &str,
        name: &str,
        matches: impl Fn(&ContainerStatus) -> bool,
    ) -> Option<ContainerId> {
        let state = self.state.lock();
        let found = state
            .containers
            .values()
            .map(|container| &container.status)
            .filter(|status| status.pod_uid == pod_uid && status.name == name && matches(status))
            .max_by_key(|status| (status.attempt, status.id.clone()));
        found.map(|status| status.id.clone())
    }

    fn running_in(&self, sandbox: &PodSandboxId) -> Vec<ContainerId> {
        let state = self.state.lock();
        let running = state
            .containers
            .values()
            .map(|container| &container.status)
            .filter(|status| {
                status.sandbox == *sandbox && matches!(status.state, ContainerState::Running { .. })
            });
        running.map(|status| status.id.clone()).collect()
    }

    fn call(&self, method: &'static str, subject: impl Into<String>) -> Result<()> {
        let mut state = self.state.lock();
        state.calls.push(Call {
            method,
            subject: subject.into(),
        });
        match state.failures.get_mut(method).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn name_of(&self, container: &ContainerId) -> Result<String> {
        let state = self.state.lock();
        let found = state.containers.get(container);
        Ok(found
            .ok_or_else(|| Error::ContainerNotFound(container.clone()))?
            .status
            .name
            .clone())
    }

    fn running(&self, container: &ContainerId) -> Result<String> {
        let state = self.state.lock();
        let found = state.containers.get(container);
        let status = &found
            .ok_or_else(|| Error::ContainerNotFound(container.clone()))?
            .status;
        match status.state {
            ContainerState::Running { .. } => Ok(status.name.clone()),
            _ => Err(Error::ContainerState {
                id: container.clone(),
                wanted: "running",
            }),
        }
    }

    fn end(&self, id: &ContainerId, code: i32, reason: ExitReason) {
        let (sandbox, uid) = {
            let mut state = self.state.lock();
            let Some(container) = state.containers.get_mut(id) else {
                return;
            };
            let started_at = match container.status.state {
                ContainerState::Running { started_at } => Some(started_at),
                ContainerState::Created => None,
                ContainerState::Exited { .. } => return,
            };
            container.status.pid = None;
            container.status.state = ContainerState::Exited {
                started_at,
                finished_at: (self.now)(),
                exit_code: code,
                reason,
                message: String::new(),
            };
            (
                container.status.sandbox.clone(),
                container.status.pod_uid.clone(),
            )
        };
        self.emit(
            sandbox,
            uid,
            Some(id.clone()),
            ContainerEventKind::Exited { code, reason },
        );
    }

    fn emit(
        &self,
        sandbox: PodSandboxId,
        pod_uid: String,
        container: Option<ContainerId>,
        kind: ContainerEventKind,
    ) {
        let event = ContainerEvent {
            sandbox,
            pod_uid,
            container,
            at: (self.now)(),
            kind,
        };
        // Without a receiver nobody wants to know.
        drop(self.events.send(event));
    }
}

impl State {
    fn next_id(&mut self) -> String {
        self.ids += 1;
        format!("{:064x}", self.ids)
    }
}

#[async_trait]
impl RuntimeService for FakeRuntime {
    fn version(&self) -> RuntimeVersion {
        RuntimeVersion {
            name: "fake".to_owned(),
            version: "1".to_owned(),
        }
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<PodSandboxId> {
        self.call("run_pod_sandbox", &config.pod.name)?;
        let mut state = self.state.lock();
        let id = PodSandboxId(state.next_id());
        let last = u8::try_from(state.ids % 250).expect("below 250") + 1;
        let addresses = match config.namespaces.network {
            NamespaceMode::Pod => vec![IpAddr::V4(Ipv4Addr::new(10, 42, 0, last))],
            NamespaceMode::Node => Vec::new(),
        };
        let sandbox = PodSandbox {
            id: id.clone(),
            pod: config.pod,
            attempt: config.attempt,
            state: PodSandboxState::Ready,
            created_at: (self.now)(),
            addresses,
            namespaces: config.namespaces,
            labels: config.labels,
            annotations: config.annotations,
        };
        state
            .log_directories
            .insert(id.clone(), config.log_directory);
        state.sandboxes.insert(id.clone(), sandbox);
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, sandbox: &PodSandboxId) -> Result<()> {
        self.call("stop_pod_sandbox", &sandbox.0)?;
        for id in self.running_in(sandbox) {
            self.end(&id, 137, ExitReason::Error);
        }
        if let Some(found) = self.state.lock().sandboxes.get_mut(sandbox) {
            found.state = PodSandboxState::NotReady;
        }
        Ok(())
    }

    async fn remove_pod_sandbox(&self, sandbox: &PodSandboxId) -> Result<()> {
        self.call("remove_pod_sandbox", &sandbox.0)?;
        for id in self.running_in(sandbox) {
            self.end(&id, 137, ExitReason::Error);
        }
        let mut state = self.state.lock();
        state
            .containers
            .retain(|_, container| container.status.sandbox != *sandbox);
        state.sandboxes.remove(sandbox);
        state.log_directories.remove(sandbox);
        Ok(())
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandbox>> {
        Ok(self.state.lock().sandboxes.values().cloned().collect())
    }

    async fn pod_sandbox_status(&self, sandbox: &PodSandboxId) -> Result<PodSandbox> {
        let found = self.state.lock().sandboxes.get(sandbox).cloned();
        found.ok_or_else(|| Error::SandboxNotFound(sandbox.clone()))
    }

    async fn update_pod_sandbox_resources(
        &self,
        sandbox: &PodSandboxId,
        _resources: &LinuxResources,
    ) -> Result<()> {
        self.call("update_pod_sandbox_resources", &sandbox.0)
    }

    async fn create_container(
        &self,
        sandbox: &PodSandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId> {
        self.call("create_container", &config.name)?;
        let (id, uid) = {
            let mut state = self.state.lock();
            let id = ContainerId(state.next_id());
            let found = state.sandboxes.get(sandbox);
            let found = found.ok_or_else(|| Error::SandboxNotFound(sandbox.clone()))?;
            let uid = found.pod.uid.clone();
            let mut status = created(&id, sandbox, &uid, &config, (self.now)());
            if let Some(directory) = state.log_directories.get(sandbox) {
                status.log_path = directory.join(&config.log_path);
            }
            state
                .containers
                .insert(id.clone(), Container { config, status });
            (id, uid)
        };
        self.emit(
            sandbox.clone(),
            uid,
            Some(id.clone()),
            ContainerEventKind::Created,
        );
        Ok(id)
    }

    async fn start_container(&self, container: &ContainerId) -> Result<()> {
        let name = self.name_of(container)?;
        if let Err(error) = self.call("start_container", name) {
            self.end(container, 128, ExitReason::StartError);
            return Err(error);
        }
        let (sandbox, uid) = {
            let mut state = self.state.lock();
            let found = state.containers.get_mut(container);
            let found = found.ok_or_else(|| Error::ContainerNotFound(container.clone()))?;
            if found.status.state != ContainerState::Created {
                return Err(Error::ContainerState {
                    id: container.clone(),
                    wanted: "created",
                });
            }
            found.status.state = ContainerState::Running {
                started_at: (self.now)(),
            };
            found.status.pid = Some(1);
            (found.status.sandbox.clone(), found.status.pod_uid.clone())
        };
        self.emit(
            sandbox,
            uid,
            Some(container.clone()),
            ContainerEventKind::Started,
        );
        Ok(())
    }

    async fn stop_container(&self, container: &ContainerId, _grace: Duration) -> Result<()> {
        let Ok(name) = self.name_of(container) else {
            return Ok(());
        };
        self.call("stop_container", &name)?;
        let behaviour = self
            .state
            .lock()
            .on_stop
            .get(&name)
            .copied()
            .unwrap_or(OnStop::Exit(0));
        match behaviour {
            OnStop::Exit(0) => self.end(container, 0, ExitReason::Completed),
            OnStop::Exit(code) => self.end(container, code, ExitReason::Error),
            OnStop::Ignore => self.end(container, 137, ExitReason::Error),
        }
        Ok(())
    }

    async fn remove_container(&self, container: &ContainerId) -> Result<()> {
        let Ok(name) = self.name_of(container) else {
            return Ok(());
        };
        self.call("remove_container", name)?;
        self.end(container, 137, ExitReason::Error);
        let Some(removed) = self.state.lock().containers.remove(container) else {
            return Ok(());
        };
        let status = removed.status;
        self.emit(
            status.sandbox,
            status.pod_uid,
            Some(status.id),
            ContainerEventKind::Removed,
        );
        Ok(())
    }

    async fn list_containers(&self, filter: &ContainerFilter) -> Result<Vec<ContainerStatus>> {
        let state = self.state.lock();
        let all = state.containers.values().map(|container| &container.status);
        Ok(all
            .filter(|status| filter.matches(status))
            .cloned()
            .collect())
    }

    async fn container_status(&self, container: &ContainerId) -> Result<ContainerStatus> {
        let state = self.state.lock();
        let found = state.containers.get(container);
        Ok(found
            .ok_or_else(|| Error::ContainerNotFound(container.clone()))?
            .status
            .clone())
    }

    async fn update_container_resources(
        &self,
        container: &ContainerId,
        resources: &LinuxResources,
    ) -> Result<()> {
        self.call("update_container_resources", self.name_of(container)?)?;
        if let Some(found) = self.state.lock().containers.get_mut(container) {
            found.status.resources = resources.clone();
        }
        Ok(())
    }

    async fn exec_sync(
        &self,
        container: &ContainerId,
        command: Vec<String>,
        _timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let name = self.running(container)?;
        self.call("exec_sync", &name)?;
        let handler = self.state.lock().exec.clone();
        handler(&name, &command)
    }

    async fn exec(&self, container: &ContainerId, request: ExecRequest) -> Result<ExecSession> {
        let name = self.running(container)?;
        self.call("exec", &name)?;
        let handler = self.state.lock().exec.clone();
        let output = handler(&name, &request.command)?;
        Ok(session(output, request.tty, request.stdio))
    }

    async fn attach(&self, container: &ContainerId, attachment: Attachment) -> Result<ExecSession> {
        let name = self.running(container)?;
        self.call("attach", &name)?;
        Ok(session(ExecOutput::default(), false, attachment.stdio))
    }

    async fn port_forward(
        &self,
        sandbox: &PodSandboxId,
        _port: u16,
    ) -> Result<Box<dyn ByteStream>> {
        self.call("port_forward", &sandbox.0)?;
        // Nobody listens in a fake pod: the stream ends at once.
        let (ours, theirs) = tokio::io::duplex(1);
        drop(theirs);
        Ok(Box::new(ours))
    }

    async fn reopen_container_log(&self, container: &ContainerId, _how: ReopenLog) -> Result<()> {
        self.call("reopen_container_log", self.running(container)?)
    }

    async fn container_stats(&self, container: &ContainerId) -> Result<ContainerStats> {
        let status = self.container_status(container).await?;
        Ok(ContainerStats {
            id: status.id,
            name: status.name,
            at: (self.now)(),
            cpu: CpuUsage::default(),
            memory: MemoryUsage::default(),
            processes: ProcessUsage::default(),
            writable_layer: FilesystemUsage::default(),
        })
    }

    async fn pod_sandbox_stats(&self, sandbox: &PodSandboxId) -> Result<PodSandboxStats> {
        self.pod_sandbox_status(sandbox).await?;
        let mut containers = Vec::new();
        for id in self.running_in(sandbox) {
            containers.push(self.container_stats(&id).await?);
        }
        Ok(PodSandboxStats {
            id: sandbox.clone(),
            at: (self.now)(),
            cpu: CpuUsage::default(),
            memory: MemoryUsage::default(),
            processes: ProcessUsage::default(),
            network: Vec::new(),
            containers,
        })
    }

    async fn list_pod_sandbox_stats(&self) -> Result<Vec<PodSandboxStats>> {
        let ids: Vec<PodSandboxId> = self.state.lock().sandboxes.keys().cloned().collect();
        let mut all = Vec::new();
        for id in ids {
            all.push(self.pod_sandbox_stats(&id).await?);
        }
        Ok(all)
    }

    fn events(&self) -> ContainerEvents {
        self.events.subscribe()
    }
}

#[async_trait]
impl ImageService for FakeRuntime {
    async fn pull_image(&self, image: &ImageSpec, _auth: Option<&PullAuth>) -> Result<ImageId> {
        self.call("pull_image", &image.reference)?;
        if let Some(found) = self.image_status(&image.reference).await? {
            return Ok(found.id);
        }
        Ok(self.add_image(&image.reference, ImageConfig::default()))
    }

    async fn image_status(&self, reference: &str) -> Result<Option<Image>> {
        let state = self.state.lock();
        let named = |image: &&Image| {
            image.id.0 == reference
                || image
                    .repo_tags
                    .iter()
                    .chain(&image.repo_digests)
                    .any(|name| name == reference)
        };
        Ok(state.images.values().find(named).cloned())
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.state.lock().images.values().cloned().collect())
    }

    async fn remove_image(&self, image: &ImageId) -> Result<()> {
        self.call("remove_image", &image.0)?;
        self.state.lock().images.remove(image);
        Ok(())
    }

    async fn fs_info(&self) -> Result<ImageFilesystems> {
        let none = FilesystemUsage::default();
        Ok(ImageFilesystems {
            images: none.clone(),
            containers: none,
        })
    }

    async fn prepare_rootfs(&self, image: &ImageId, container: &ContainerId) -> Result<RootFs> {
        let state = self.state.lock();
        let found = state
            .images
            .get(image)
            .ok_or_else(|| Error::ImageNotFound(image.clone()))?;
        let path = PathBuf::from("/nonexistent").join(&container.0);
        Ok(RootFs {
            path,
            config: found.config.clone(),
        })
    }

    async fn remove_rootfs(&self, _container: &ContainerId) -> Result<()> {
        Ok(())
    }

    async fn rootfs_usage(&self, _container: &ContainerId) -> Result<FilesystemUsage> {
        Ok(FilesystemUsage::default())
    }
}

fn image_id(reference: &str) -> ImageId {
    let hex: String = reference
        .bytes()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(hex_digit)
        .collect();
    ImageId(format!("sha256:{hex:0<64.64}"))
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).expect("a nibble is one digit")
}

fn created(
    id: &ContainerId,
    sandbox: &PodSandboxId,
    pod_uid: &str,
    config: &ContainerConfig,
    now: Timestamp,
) -> ContainerStatus {
    ContainerStatus {
        id: id.clone(),
        sandbox: sandbox.clone(),
        pod_uid: pod_uid.to_owned(),
        name: config.name.clone(),
        attempt: config.attempt,
        image: config.image.clone(),
        image_id: config.image_id.clone(),
        created_at: now,
        state: ContainerState::Created,
        pid: None,
        user: Some((0, 0, Vec::new())),
        log_path: config.log_path.clone(),
        resources: config.resources.clone(),
        stop_signal: config
            .stop_signal
            .clone()
            .unwrap_or_else(|| "SIGTERM".to_owned()),
        mounts: config.mounts.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
    }
}

fn session(output: ExecOutput, tty: bool, stdio: crate::Stdio) -> ExecSession {
    let code = output.exit_code;
    let resize: crate::Resize = Arc::new(|_| Ok(()));
    ExecSession {
        stdin: stdio
            .stdin
            .then(|| Box::new(tokio::io::sink()) as crate::ByteWriter),
        stdout: stdio.stdout.then(|| reader(output.stdout)),
        stderr: (stdio.stderr && !tty).then(|| reader(output.stderr)),
        resize: tty.then_some(resize),
        exit: Box::pin(async move { Ok(code) }),
    }
}

fn reader(bytes: Vec<u8>) -> crate::ByteReader {
    Box::new(std::io::Cursor::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, image: &ImageId) -> ContainerConfig {
        ContainerConfig {
            name: name.to_owned(),
            image_id: image.clone(),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_container_moves_from_created_over_running_to_exited_and_tells_each_step() {
        let runtime = FakeRuntime::new(Arc::new(|| Timestamp::UNIX_EPOCH));
        let mut events = runtime.events();
        let image = runtime.add_image("busybox", ImageConfig::default());
        let pod = crate::PodIdentity {
            uid: "u".into(),
            name: "p".into(),
            namespace: "d".into(),
        };
        let wanted = PodSandboxConfig {
            pod,
            ..Default::default()
        };
        let sandbox = runtime.run_pod_sandbox(wanted).await.unwrap();
        let id = runtime
            .create_container(&sandbox, config("app", &image))
            .await
            .unwrap();
        runtime.start_container(&id).await.unwrap();
        runtime.exit("u", "app", 3);
        let mut kinds = Vec::new();
        while let Ok(event) = events.try_recv() {
            kinds.push(event.kind);
        }
        let exited = ContainerEventKind::Exited {
            code: 3,
            reason: ExitReason::Error,
        };
        assert_eq!(
            kinds,
            [
                ContainerEventKind::Created,
                ContainerEventKind::Started,
                exited
            ]
        );
        assert!(
            runtime.start_container(&id).await.is_err(),
            "an exited container never starts again"
        );
    }
}

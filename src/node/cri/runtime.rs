//! The calls of a kubelet to a runtime.

use crate::{
    Attachment, ByteStream, ContainerConfig, ContainerEvents, ContainerFilter, ContainerId,
    ContainerStats, ContainerStatus, ExecOutput, ExecRequest, ExecSession, LinuxResources,
    PodSandbox, PodSandboxConfig, PodSandboxId, PodSandboxStats, Result,
};
use async_trait::async_trait;
use std::time::Duration;

/// Runs sandboxes and containers. Every call that removes or stops succeeds when there is nothing to do.
#[async_trait]
pub trait RuntimeService: Send + Sync {
    fn version(&self) -> RuntimeVersion;

    /// Makes cgroup, namespaces and network of a pod. On an error nothing is left behind.
    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<PodSandboxId>;
    /// Kills what still runs in it, detaches its network; the sandbox is not ready afterwards.
    async fn stop_pod_sandbox(&self, sandbox: &PodSandboxId) -> Result<()>;
    /// Stops it and removes it with all its containers.
    async fn remove_pod_sandbox(&self, sandbox: &PodSandboxId) -> Result<()>;
    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandbox>>;
    async fn pod_sandbox_status(&self, sandbox: &PodSandboxId) -> Result<PodSandbox>;
    /// Changes the limits of the pod's cgroup in place.
    async fn update_pod_sandbox_resources(
        &self,
        sandbox: &PodSandboxId,
        resources: &LinuxResources,
    ) -> Result<()>;

    /// Prepares root filesystem, mounts and filter of a container, and starts nothing.
    async fn create_container(
        &self,
        sandbox: &PodSandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId>;
    /// Starts the first process and returns when it runs the container's program. A container that could not
    /// be started counts as exited with code 128 and `StartError`.
    async fn start_container(&self, container: &ContainerId) -> Result<()>;
    /// Sends the stop signal, waits up to `grace`, kills, and returns when the container has ended.
    async fn stop_container(&self, container: &ContainerId, grace: Duration) -> Result<()>;
    /// Removes a container, killing it if it runs. Its log files stay: they are the kubelet's.
    async fn remove_container(&self, container: &ContainerId) -> Result<()>;
    async fn list_containers(&self, filter: &ContainerFilter) -> Result<Vec<ContainerStatus>>;
    async fn container_status(&self, container: &ContainerId) -> Result<ContainerStatus>;
    /// Changes limits of a running container in place; `None` fields stay as they are.
    async fn update_container_resources(
        &self,
        container: &ContainerId,
        resources: &LinuxResources,
    ) -> Result<()>;

    /// Runs a command to its end. After `timeout` the command is killed and the call fails with `Timeout`.
    async fn exec_sync(
        &self,
        container: &ContainerId,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput>;
    /// Starts a command and returns its streams. A command that cannot be started is `Error::Exec`.
    async fn exec(&self, container: &ContainerId, request: ExecRequest) -> Result<ExecSession>;
    /// Streams of the first process from now on.
    async fn attach(&self, container: &ContainerId, attachment: Attachment) -> Result<ExecSession>;
    /// Connects to `localhost:port` inside the sandbox's network namespace.
    async fn port_forward(&self, sandbox: &PodSandboxId, port: u16) -> Result<Box<dyn ByteStream>>;
    /// Closes the log file and opens it anew (after someone moved it), or rotates it first.
    async fn reopen_container_log(&self, container: &ContainerId, how: ReopenLog) -> Result<()>;

    async fn container_stats(&self, container: &ContainerId) -> Result<ContainerStats>;
    async fn pod_sandbox_stats(&self, sandbox: &PodSandboxId) -> Result<PodSandboxStats>;
    async fn list_pod_sandbox_stats(&self) -> Result<Vec<PodSandboxStats>>;

    /// Events from now on. List after subscribing: nothing is missed between the two.
    fn events(&self) -> ContainerEvents;
}

/// What happens to the log file before it is opened anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ReopenLog {
    Reopen,
    Rotate,
}

/// Shown as `nodeInfo.containerRuntimeVersion`: `<name>://<version>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeVersion {
    pub name: String,
    pub version: String,
}

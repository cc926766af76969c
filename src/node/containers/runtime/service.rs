//! CRI's face of the runtime.

use super::{
    Inner, Runtime, blocking, containers, create, sandboxes, sessions, shim_client, stats,
};
use crate::error::internal;
use crate::shim::protocol::Request;
use async_trait::async_trait;
use cri::{
    Attachment, ByteStream, ContainerConfig, ContainerEvents, ContainerFilter, ContainerId,
    ContainerStats, ContainerStatus, ExecOutput, ExecRequest, ExecSession, LinuxResources,
    PodSandbox, PodSandboxConfig, PodSandboxId, PodSandboxState, PodSandboxStats, ReopenLog,
    Result, RuntimeService, RuntimeVersion,
};
use std::time::Duration;

/// The runtime's name in container ids and node status.
const NAME: &str = "combo";

#[async_trait]
impl RuntimeService for Runtime {
    fn version(&self) -> RuntimeVersion {
        RuntimeVersion {
            name: NAME.to_owned(),
            version: self.inner.options.version.clone(),
        }
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<PodSandboxId> {
        sandboxes::run(&self.inner, config).await
    }

    async fn stop_pod_sandbox(&self, sandbox: &PodSandboxId) -> Result<()> {
        sandboxes::stop(&self.inner, sandbox).await
    }

    async fn remove_pod_sandbox(&self, sandbox: &PodSandboxId) -> Result<()> {
        sandboxes::remove(&self.inner, sandbox).await
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandbox>> {
        Ok(self
            .inner
            .state()
            .sandboxes
            .values()
            .map(super::state::SandboxEntry::view)
            .collect())
    }

    async fn pod_sandbox_status(&self, sandbox: &PodSandboxId) -> Result<PodSandbox> {
        Ok(self.inner.sandbox(sandbox)?.view())
    }

    async fn update_pod_sandbox_resources(
        &self,
        sandbox: &PodSandboxId,
        resources: &LinuxResources,
    ) -> Result<()> {
        let entry = self.inner.sandbox(sandbox)?;
        let group = self.inner.pod_group(&entry.record.config);
        let limits = sandboxes::limits(resources);
        blocking(move || group.write_limits(&limits).map_err(internal)).await
    }

    async fn create_container(
        &self,
        sandbox: &PodSandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId> {
        create::create(&self.inner, sandbox, config).await
    }

    async fn start_container(&self, container: &ContainerId) -> Result<()> {
        containers::start(&self.inner, container).await
    }

    async fn stop_container(&self, container: &ContainerId, grace: Duration) -> Result<()> {
        containers::stop(&self.inner, container, grace).await
    }

    async fn remove_container(&self, container: &ContainerId) -> Result<()> {
        containers::remove(&self.inner, container).await
    }

    async fn list_containers(&self, filter: &ContainerFilter) -> Result<Vec<ContainerStatus>> {
        Ok(statuses(&self.inner)
            .into_iter()
            .filter(|status| filter.matches(status))
            .collect())
    }

    async fn container_status(&self, container: &ContainerId) -> Result<ContainerStatus> {
        let (entry, sandbox) = self.inner.container_and_sandbox(container)?;
        Ok(entry.view(&sandbox.record))
    }

    async fn update_container_resources(
        &self,
        container: &ContainerId,
        resources: &LinuxResources,
    ) -> Result<()> {
        containers::update(&self.inner, container, resources).await
    }

    async fn exec_sync(
        &self,
        container: &ContainerId,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        sessions::exec_sync(&self.inner, container, command, timeout).await
    }

    async fn exec(&self, container: &ContainerId, request: ExecRequest) -> Result<ExecSession> {
        sessions::exec(&self.inner, container, request).await
    }

    async fn attach(&self, container: &ContainerId, attachment: Attachment) -> Result<ExecSession> {
        sessions::attach(&self.inner, container, attachment).await
    }

    async fn port_forward(&self, sandbox: &PodSandboxId, port: u16) -> Result<Box<dyn ByteStream>> {
        sessions::port_forward(&self.inner, sandbox, port).await
    }

    async fn reopen_container_log(&self, container: &ContainerId, how: ReopenLog) -> Result<()> {
        let (entry, sandbox) = self.inner.container_and_sandbox(container)?;
        let request = Request::ReopenLog {
            container: entry.record.id.0.clone(),
            how,
        };
        shim_client::call_done(&sandbox.dir, &request).await
    }

    async fn container_stats(&self, container: &ContainerId) -> Result<ContainerStats> {
        stats::of_container(&self.inner, container).await
    }

    async fn pod_sandbox_stats(&self, sandbox: &PodSandboxId) -> Result<PodSandboxStats> {
        stats::of_sandbox(&self.inner, sandbox).await
    }

    async fn list_pod_sandbox_stats(&self) -> Result<Vec<PodSandboxStats>> {
        let mut all = Vec::new();
        for sandbox in self.list_pod_sandboxes().await? {
            if sandbox.state == PodSandboxState::Ready {
                match stats::of_sandbox(&self.inner, &sandbox.id).await {
                    Ok(stats) => all.push(stats),
                    // It, or a container of it, ended meanwhile.
                    Err(error) => tracing::debug!(sandbox = %sandbox.id, %error, "no stats"),
                }
            }
        }
        Ok(all)
    }

    fn events(&self) -> ContainerEvents {
        self.inner.events.subscribe()
    }
}

fn statuses(inner: &Inner) -> Vec<ContainerStatus> {
    let state = inner.state();
    let status = |entry: &super::state::ContainerEntry| {
        let sandbox = state.sandboxes.get(&entry.record.sandbox)?;
        Some(entry.view(&sandbox.record))
    };
    state.containers.values().filter_map(status).collect()
}

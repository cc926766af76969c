//! What the runtime has of one pod: its sandboxes and containers, newest first.

use std::collections::BTreeMap;

use cri::{
    ContainerFilter, ContainerId, ContainerState, ContainerStatus, PodSandbox, PodSandboxState,
    RuntimeService,
};

/// A snapshot of one pod in the runtime.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Newest first.
    pub(crate) sandboxes: Vec<PodSandbox>,
    /// Newest first.
    pub(crate) containers: Vec<ContainerStatus>,
    /// What ended containers left as their last words, by container.
    pub(crate) messages: BTreeMap<ContainerId, String>,
}

impl Observed {
    pub(crate) async fn read(runtime: &dyn RuntimeService, uid: &str) -> cri::Result<Self> {
        let mut sandboxes = runtime.list_pod_sandboxes().await?;
        sandboxes.retain(|sandbox| sandbox.pod.uid == uid);
        let filter = ContainerFilter {
            pod_uid: Some(uid.to_owned()),
            ..ContainerFilter::default()
        };
        let containers = runtime.list_containers(&filter).await?;
        Ok(Self::new(sandboxes, containers))
    }

    pub(crate) fn new(
        mut sandboxes: Vec<PodSandbox>,
        mut containers: Vec<ContainerStatus>,
    ) -> Self {
        sandboxes.sort_by(|left, right| {
            (right.created_at, right.attempt, &right.id).cmp(&(
                left.created_at,
                left.attempt,
                &left.id,
            ))
        });
        containers.sort_by(|left, right| {
            (right.attempt, right.created_at, &right.id).cmp(&(
                left.attempt,
                left.created_at,
                &left.id,
            ))
        });
        Self {
            sandboxes,
            containers,
            messages: BTreeMap::new(),
        }
    }

    /// The newest container of a name.
    pub(crate) fn newest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers
            .iter()
            .find(|container| container.name == name)
    }

    /// The containers of a name, newest first.
    pub(crate) fn all_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ContainerStatus> {
        self.containers
            .iter()
            .filter(move |container| container.name == name)
    }

    /// The newest sandbox if it is ready.
    pub(crate) fn ready_sandbox(&self) -> Option<&PodSandbox> {
        self.sandboxes
            .first()
            .filter(|sandbox| sandbox.state == PodSandboxState::Ready)
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers
            .iter()
            .filter(|container| is_running(container))
    }

    /// A container runs, or could start any moment.
    pub(crate) fn is_anything_running(&self) -> bool {
        // What was made but not begun cannot begin once its sandbox is stopped.
        let can_begin = self.ready_sandbox().is_some();
        self.containers
            .iter()
            .any(|container| match container.state {
                ContainerState::Exited { .. } => false,
                ContainerState::Created => can_begin,
                ContainerState::Running { .. } => true,
            })
    }
}

pub(crate) fn is_running(container: &ContainerStatus) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

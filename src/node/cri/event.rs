//! What happened to containers, told as it happens, so that a kubelet never polls.

use crate::{ContainerId, ExitReason, PodSandboxId};
use env::Timestamp;
use tokio::sync::broadcast;

/// One thing that happened. Events of one container come in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    pub sandbox: PodSandboxId,
    pub pod_uid: String,
    /// The container; none when the event is about the sandbox itself.
    pub container: Option<ContainerId>,
    pub at: Timestamp,
    pub kind: ContainerEventKind,
}

/// What happened to a container or a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerEventKind {
    Created,
    Started,
    /// The first process ended. `code` is 128 + signal when a signal ended it.
    Exited {
        code: i32,
        reason: ExitReason,
    },
    Removed,
    /// The sandbox lost its namespaces (its shim is gone): the pod needs another one.
    SandboxLost,
}

/// A receiver of events. A receiver that falls behind gets `Lagged` and must list again.
pub type ContainerEvents = broadcast::Receiver<ContainerEvent>;

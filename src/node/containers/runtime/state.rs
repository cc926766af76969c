//! Sandboxes and containers in memory, and their records on disk.

use super::Inner;
use crate::layout::{ContainerDir, SandboxDir};
use crate::shim::Ready;
use crate::shim::protocol::ExitRecord;
use crate::spec::ResolvedUser;
use cri::{
    ContainerConfig, ContainerEvent, ContainerEventKind, ContainerId, ContainerState,
    ContainerStatus, Error, ExitReason, PodSandbox, PodSandboxConfig, PodSandboxId,
    PodSandboxState, Result,
};
use env::Timestamp;
use linux::AtomicFile;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Everything the runtime knows.
#[derive(Default)]
pub(super) struct State {
    pub(super) sandboxes: BTreeMap<PodSandboxId, SandboxEntry>,
    pub(super) containers: BTreeMap<ContainerId, ContainerEntry>,
}

/// `sandbox.json`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct SandboxRecord {
    pub(super) id: PodSandboxId,
    pub(super) config: PodSandboxConfig,
    /// Nanoseconds since 1970.
    pub(super) created_at: i64,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) boot_id: String,
    pub(super) is_stopped: bool,
}

/// `container.json`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) id: ContainerId,
    pub(super) sandbox: PodSandboxId,
    pub(super) config: ContainerConfig,
    /// Nanoseconds since 1970.
    pub(super) created_at: i64,
    pub(super) user: ResolvedUser,
    pub(super) stop_signal: String,
}

#[derive(Clone)]
pub(super) struct SandboxEntry {
    pub(super) record: SandboxRecord,
    pub(super) dir: SandboxDir,
    /// `None` without a living shim.
    pub(super) ready: Option<Ready>,
    /// Held by the one call that makes or stops the sandbox, or prepares a container of it.
    pub(super) turn: Arc<tokio::sync::Mutex<Turn>>,
}

/// Whether what a sandbox held of the kernel (processes, cgroup, mounts) is given back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Held,
    Released,
}

#[derive(Clone)]
pub(super) struct ContainerEntry {
    pub(super) record: ContainerRecord,
    pub(super) dir: ContainerDir,
    pub(super) phase: watch::Sender<Phase>,
    /// Held by the one call that starts or removes the container.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// How far along a container is. It only moves down this list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Created,
    Running { pid: i32, started_at: i64 },
    Exited(ExitRecord),
}

impl SandboxEntry {
    pub(super) fn held() -> Arc<tokio::sync::Mutex<Turn>> {
        Arc::new(tokio::sync::Mutex::new(Turn::Held))
    }

    pub(super) fn view(&self) -> PodSandbox {
        let config = &self.record.config;
        PodSandbox {
            id: self.record.id.clone(),
            pod: config.pod.clone(),
            attempt: config.attempt,
            state: match &self.ready {
                Some(_) if !self.record.is_stopped => PodSandboxState::Ready,
                _ => PodSandboxState::NotReady,
            },
            created_at: moment(self.record.created_at),
            addresses: self.record.addresses.clone(),
            namespaces: config.namespaces.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }
    }

    pub(super) fn save(&self) -> linux::Result<()> {
        let bytes = serde_json::to_vec(&self.record).expect("plain data becomes JSON");
        AtomicFile::private(self.dir.record()).write(&bytes)
    }
}

impl ContainerEntry {
    pub(super) fn new(record: ContainerRecord, dir: ContainerDir) -> ContainerEntry {
        ContainerEntry {
            record,
            dir,
            phase: watch::Sender::new(Phase::Created),
            turn: Arc::default(),
        }
    }

    pub(super) fn save(&self) -> linux::Result<()> {
        let bytes = serde_json::to_vec(&self.record).expect("plain data becomes JSON");
        AtomicFile::private(self.dir.record()).write(&bytes)
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(super) fn view(&self, sandbox: &SandboxRecord) -> ContainerStatus {
        let (record, config) = (&self.record, &self.record.config);
        let phase = self.phase();
        let pid = match phase {
            Phase::Running { pid, .. } => Some(pid),
            _ => None,
        };
        ContainerStatus {
            id: record.id.clone(),
            sandbox: record.sandbox.clone(),
            pod_uid: sandbox.config.pod.uid.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
            image: config.image.clone(),
            image_id: config.image_id.clone(),
            created_at: moment(record.created_at),
            state: phase.view(),
            pid,
            user: Some((record.user.uid, record.user.gid, record.user.groups.clone())),
            log_path: sandbox.config.log_directory.join(&config.log_path),
            resources: config.resources.clone(),
            stop_signal: record.stop_signal.clone(),
            mounts: config.mounts.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }
    }
}

impl Phase {
    fn view(self) -> ContainerState {
        match self {
            Phase::Created => ContainerState::Created,
            Phase::Running { started_at, .. } => ContainerState::Running {
                started_at: moment(started_at),
            },
            Phase::Exited(exit) => ContainerState::Exited {
                started_at: exit.started_at.map(moment),
                finished_at: moment(exit.finished_at),
                exit_code: exit.code,
                reason: exit_reason(&exit),
                message: exit.start_error.unwrap_or_default(),
            },
        }
    }
}

pub(super) fn exit_reason(exit: &ExitRecord) -> ExitReason {
    if exit.start_error.is_some() {
        ExitReason::StartError
    } else if exit.unknown {
        ExitReason::Unknown
    } else if exit.oom_killed {
        ExitReason::OomKilled
    } else if exit.code == 0 {
        ExitReason::Completed
    } else {
        ExitReason::Error
    }
}

impl Inner {
    pub(super) fn sandbox(&self, id: &PodSandboxId) -> Result<SandboxEntry> {
        let found = self.state().sandboxes.get(id).cloned();
        found.ok_or_else(|| Error::SandboxNotFound(id.clone()))
    }

    pub(super) fn container(&self, id: &ContainerId) -> Result<ContainerEntry> {
        let found = self.state().containers.get(id).cloned();
        found.ok_or_else(|| Error::ContainerNotFound(id.clone()))
    }

    /// A container with the sandbox it is in.
    pub(super) fn container_and_sandbox(
        &self,
        id: &ContainerId,
    ) -> Result<(ContainerEntry, SandboxEntry)> {
        let container = self.container(id)?;
        let sandbox = self.sandbox(&container.record.sandbox)?;
        Ok((container, sandbox))
    }

    pub(super) fn containers_of(&self, sandbox: &PodSandboxId) -> Vec<ContainerEntry> {
        let state = self.state();
        let of = state
            .containers
            .values()
            .filter(|entry| entry.record.sandbox == *sandbox);
        of.cloned().collect()
    }

    pub(super) fn now(&self) -> i64 {
        nanoseconds(self.options.clock.now())
    }

    /// The first process runs. Nothing changes when the end was heard of before.
    pub(super) fn mark_running(&self, entry: &ContainerEntry, pid: i32, started_at: i64) {
        let changed = entry.phase.send_if_modified(|phase| {
            let is_new = *phase == Phase::Created;
            if is_new {
                *phase = Phase::Running { pid, started_at };
            }
            is_new
        });
        if changed {
            self.emit(entry, ContainerEventKind::Started);
        }
    }

    /// The container ended; heard of once or several times.
    pub(super) fn mark_exited(&self, entry: &ContainerEntry, exit: &ExitRecord) {
        if let Some(started_at) = exit.started_at {
            // The end may be heard of before the answer to start: events stay in order.
            self.mark_running(entry, 0, started_at);
        }
        let changed = entry.phase.send_if_modified(|phase| {
            let is_new = !matches!(phase, Phase::Exited(_));
            if is_new {
                *phase = Phase::Exited(exit.clone());
            }
            is_new
        });
        if changed {
            let kind = ContainerEventKind::Exited {
                code: exit.code,
                reason: exit_reason(exit),
            };
            self.emit(entry, kind);
        }
    }

    pub(super) fn emit(&self, entry: &ContainerEntry, kind: ContainerEventKind) {
        let sandbox = &entry.record.sandbox;
        self.emit_of(sandbox, Some(entry.record.id.clone()), kind);
    }

    pub(super) fn emit_of(
        &self,
        sandbox: &PodSandboxId,
        container: Option<ContainerId>,
        kind: ContainerEventKind,
    ) {
        let pod_uid = self
            .sandbox(sandbox)
            .map(|entry| entry.record.config.pod.uid);
        let event = ContainerEvent {
            sandbox: sandbox.clone(),
            pod_uid: pod_uid.unwrap_or_default(),
            container,
            at: self.options.clock.now(),
            kind,
        };
        // Without a receiver nobody wants to know.
        drop(self.events.send(event));
    }
}

pub(super) fn moment(nanoseconds: i64) -> Timestamp {
    let whole = Timestamp::from_unix_seconds(nanoseconds.div_euclid(1_000_000_000));
    whole.saturating_add(Duration::from_nanos(
        nanoseconds.rem_euclid(1_000_000_000).unsigned_abs(),
    ))
}

pub(super) fn nanoseconds(moment: Timestamp) -> i64 {
    i64::try_from(moment.unix_nanoseconds()).unwrap_or(i64::MAX)
}

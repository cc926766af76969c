//! A container: how to make it, and how it fares.

use crate::{ImageId, LinuxContainerSecurityContext, PodSandboxId};
use env::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The id of a container, made by the runtime: 64 lower-case hex digits.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How to make a container. The runtime asks its image service for the root filesystem of `image_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContainerConfig {
    pub name: String,
    /// Counts the restarts of the container from 0.
    pub attempt: u32,
    /// As the pod names it.
    pub image: String,
    pub image_id: ImageId,
    /// With variables expanded. Empty: the image's entrypoint, followed by `args` or else the image's cmd.
    pub command: Vec<String>,
    pub args: Vec<String>,
    /// With variables expanded; put over the image's environment, later entries win.
    pub env: Vec<(String, String)>,
    /// `None`: the image's, else `/`.
    pub working_dir: Option<String>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub security: LinuxContainerSecurityContext,
    pub resources: LinuxResources,
    pub tty: bool,
    pub stdin: bool,
    /// Standard input closes for good when the first attached client leaves.
    pub stdin_once: bool,
    /// Relative to the sandbox's log directory, for example `app/0.log`.
    pub log_path: PathBuf,
    /// Join the pid namespace of this container instead of the pod's (ephemeral containers).
    pub target_container: Option<ContainerId>,
    /// `lifecycle.stopSignal`; `None`: the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// A file or directory of the node inside the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    pub read_only: MountReadOnly,
    pub propagation: MountPropagation,
    /// Map ids of files through the pod's user namespace. Ignored when the pod has none.
    pub idmap: bool,
}

/// How far a mount is read-only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MountReadOnly {
    #[default]
    No,
    /// This mount, but not those below it.
    Yes,
    /// All mounts below it, too.
    Recursive,
}

/// Which mounts made later are seen on the other side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MountPropagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// A range of ids inside a user namespace and where it lies outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdMapping {
    pub container_id: u32,
    pub host_id: u32,
    pub length: u32,
}

/// Limits of a cgroup. `None` leaves a limit as the kernel or the parent has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LinuxResources {
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds of each period; -1 for no limit.
    pub cpu_quota: Option<i64>,
    /// 2 to 262144, cgroup v1's scale.
    pub cpu_shares: Option<u64>,
    /// For example `0-2,5`.
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Bytes.
    pub memory_limit: Option<i64>,
    /// Memory and swap together, bytes, v1's meaning; -1 for no limit.
    pub memory_swap_limit: Option<i64>,
    pub pids_limit: Option<i64>,
    /// -1000 to 1000; for containers only.
    pub oom_score_adj: Option<i32>,
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Raw cgroup v2 files and their values.
    pub unified: BTreeMap<String, String>,
}

/// A limit of one size of huge pages.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HugepageLimit {
    /// As in the file names of the controller: `2MB`, `1GB`.
    pub page_size: String,
    pub limit_bytes: u64,
}

/// Which containers to list; an empty filter takes all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFilter {
    pub sandbox: Option<PodSandboxId>,
    pub pod_uid: Option<String>,
}

impl ContainerFilter {
    /// Whether a container passes.
    pub fn matches(&self, status: &ContainerStatus) -> bool {
        self.sandbox
            .as_ref()
            .is_none_or(|wanted| *wanted == status.sandbox)
            && self
                .pod_uid
                .as_ref()
                .is_none_or(|wanted| *wanted == status.pod_uid)
    }
}

/// How far along a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running {
        started_at: Timestamp,
    },
    Exited {
        /// `None` when it never started.
        started_at: Option<Timestamp>,
        finished_at: Timestamp,
        /// 128 + signal when a signal ended it; 128 when it could not be started.
        exit_code: i32,
        reason: ExitReason,
        message: String,
    },
}

/// Why a container ended: `state.terminated.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ExitReason {
    Completed,
    Error,
    OomKilled,
    /// The first process could not be started.
    StartError,
    /// It ended while nobody watched; the exit code is made up.
    Unknown,
}

impl ExitReason {
    /// The word that `state.terminated.reason` shows.
    pub fn as_str(self) -> &'static str {
        match self {
            ExitReason::Completed => "Completed",
            ExitReason::Error => "Error",
            ExitReason::OomKilled => "OOMKilled",
            ExitReason::StartError => "StartError",
            ExitReason::Unknown => "ContainerStatusUnknown",
        }
    }
}

/// A container as the runtime knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub sandbox: PodSandboxId,
    pub pod_uid: String,
    pub name: String,
    pub attempt: u32,
    pub image: String,
    pub image_id: ImageId,
    pub created_at: Timestamp,
    pub state: ContainerState,
    /// The first process on the node while it runs.
    pub pid: Option<i32>,
    /// Ids of the first process, as resolved from the image; there once it was made.
    pub user: Option<(u32, u32, Vec<u32>)>,
    /// Absolute.
    pub log_path: PathBuf,
    pub resources: LinuxResources,
    /// The signal that `stop_container` sends first, for example `SIGTERM`.
    pub stop_signal: String,
    pub mounts: Vec<Mount>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

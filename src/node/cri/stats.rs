//! What containers and sandboxes use, read when asked.

use crate::{ContainerId, FilesystemUsage, PodSandboxId};
use env::Timestamp;

/// Usage of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStats {
    pub id: ContainerId,
    pub name: String,
    pub at: Timestamp,
    pub cpu: CpuUsage,
    pub memory: MemoryUsage,
    pub processes: ProcessUsage,
    pub writable_layer: FilesystemUsage,
}

/// Usage of a pod: its cgroup, its network namespace, its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSandboxStats {
    pub id: PodSandboxId,
    pub at: Timestamp,
    pub cpu: CpuUsage,
    pub memory: MemoryUsage,
    pub processes: ProcessUsage,
    /// Empty for a pod on the host's network.
    pub network: Vec<NetworkUsage>,
    pub containers: Vec<ContainerStats>,
}

/// CPU time since the cgroup was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuUsage {
    pub usage_core_nanoseconds: u64,
}

/// Memory of a cgroup, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    pub usage_bytes: u64,
    /// Usage without inactive page cache: what eviction looks at.
    pub working_set_bytes: u64,
    pub rss_bytes: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// `None`: no limit.
    pub limit_bytes: Option<u64>,
}

/// Processes and threads of a cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    pub count: u64,
}

/// Counters of one link of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}

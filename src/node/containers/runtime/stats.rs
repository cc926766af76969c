//! Usage of containers and sandboxes, read from the kernel when asked.

use super::containers::group_of;
use super::state::{ContainerEntry, Phase, SandboxEntry};
use super::{Inner, blocking, sandboxes};
use crate::error::internal;
use cri::{
    ContainerId, ContainerStats, CpuUsage, Error, MemoryUsage, NamespaceMode, NetworkUsage,
    PodSandboxId, PodSandboxStats, ProcessUsage, Result,
};
use linux::cgroup::{Cgroup, CgroupStats};
use linux::namespaces::{NamespaceKind, in_namespace};
use std::sync::Arc;

pub(super) async fn of_container(inner: &Arc<Inner>, id: &ContainerId) -> Result<ContainerStats> {
    let (entry, sandbox) = inner.container_and_sandbox(id)?;
    if !matches!(entry.phase(), Phase::Running { .. }) {
        return Err(Error::ContainerState {
            id: id.clone(),
            wanted: "running",
        });
    }
    read(inner, &entry, &sandbox).await
}

pub(super) async fn of_sandbox(inner: &Arc<Inner>, id: &PodSandboxId) -> Result<PodSandboxStats> {
    let sandbox = inner.sandbox(id)?;
    let group = inner.pod_group(&sandbox.record.config);
    let (cpu, memory, processes) = usage(&read_group(group).await?);
    let mut containers = Vec::new();
    for entry in inner.containers_of(id) {
        if matches!(entry.phase(), Phase::Running { .. }) {
            containers.push(read(inner, &entry, &sandbox).await?);
        }
    }
    Ok(PodSandboxStats {
        id: id.clone(),
        at: inner.options.clock.now(),
        cpu,
        memory,
        processes,
        network: network(&sandbox).await?,
        containers,
    })
}

async fn read(
    inner: &Arc<Inner>,
    entry: &ContainerEntry,
    sandbox: &SandboxEntry,
) -> Result<ContainerStats> {
    let (cpu, memory, processes) = usage(&read_group(group_of(inner, entry, sandbox)).await?);
    Ok(ContainerStats {
        id: entry.record.id.clone(),
        name: entry.record.config.name.clone(),
        at: inner.options.clock.now(),
        cpu,
        memory,
        processes,
        writable_layer: inner.options.images.rootfs_usage(&entry.record.id).await?,
    })
}

async fn read_group(group: Cgroup) -> Result<CgroupStats> {
    blocking(move || Ok(group.stats())).await
}

fn usage(stats: &CgroupStats) -> (CpuUsage, MemoryUsage, ProcessUsage) {
    let memory = MemoryUsage {
        usage_bytes: stats.memory.usage_bytes,
        working_set_bytes: stats.memory.working_set_bytes,
        rss_bytes: stats.memory.rss_bytes,
        page_faults: stats.memory.page_faults,
        major_page_faults: stats.memory.major_page_faults,
        limit_bytes: stats.memory.limit_bytes,
    };
    let cpu = CpuUsage {
        usage_core_nanoseconds: stats.cpu_usage_nanoseconds,
    };
    (cpu, memory, ProcessUsage { count: stats.pids })
}

/// Counters of the sandbox's links, read on a thread inside its network namespace.
async fn network(sandbox: &SandboxEntry) -> Result<Vec<NetworkUsage>> {
    let has_own = sandbox.record.config.namespaces.network == NamespaceMode::Pod;
    if !has_own || sandbox.ready.is_none() {
        return Ok(Vec::new());
    }
    let Some(netns) = sandboxes::namespace(&sandbox.dir, NamespaceKind::Network).await? else {
        return Ok(Vec::new());
    };
    blocking(move || {
        let text = in_namespace(&netns, || {
            std::fs::read_to_string("/proc/thread-self/net/dev")
        });
        Ok(parse_links(&text.map_err(internal)?.map_err(internal)?))
    })
    .await
}

/// /proc/net/dev: two lines of heading, then `name: rx (8 numbers) tx (8 numbers)`. The loopback link does not count.
fn parse_links(text: &str) -> Vec<NetworkUsage> {
    let link = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let numbers: Vec<u64> = counters
            .split_whitespace()
            .filter_map(|one| one.parse().ok())
            .collect();
        let at = |index: usize| numbers.get(index).copied();
        Some(NetworkUsage {
            name: name.trim().to_owned(),
            rx_bytes: at(0)?,
            rx_errors: at(2)?,
            tx_bytes: at(8)?,
            tx_errors: at(10)?,
        })
    };
    text.lines()
        .skip(2)
        .filter_map(link)
        .filter(|link| link.name != "lo")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_but_the_loopback_are_counted() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 0 0 0 0 0 20 4 5 0 0 0 0 0\n";
        let wanted = NetworkUsage {
            name: "eth0".to_owned(),
            rx_bytes: 10,
            rx_errors: 3,
            tx_bytes: 20,
            tx_errors: 5,
        };
        assert_eq!(parse_links(text), [wanted]);
    }
}

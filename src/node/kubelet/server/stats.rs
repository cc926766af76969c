//! `/stats/summary`: what node, pods and containers use.

use cri::{ContainerStats, PodSandboxStats};
use serde_json::{Value, json};

use crate::kubelet::Kubelet;

pub(crate) async fn summary(kubelet: &Kubelet) -> Result<Value, String> {
    let services = &kubelet.services;
    let sandboxes = services
        .runtime
        .list_pod_sandboxes()
        .await
        .map_err(|error| error.to_string())?;
    let all = services
        .runtime
        .list_pod_sandbox_stats()
        .await
        .map_err(|error| error.to_string())?;
    let pods: Vec<Value> = all
        .iter()
        .filter_map(|stats| {
            let sandbox = sandboxes.iter().find(|sandbox| sandbox.id == stats.id)?;
            Some(pod(stats, sandbox))
        })
        .collect();
    Ok(json!({"node": node(kubelet).await, "pods": pods}))
}

fn pod(stats: &PodSandboxStats, sandbox: &cri::PodSandbox) -> Value {
    let at = stats.at.to_seconds_string();
    let network = stats.network.first().map(|link| {
        json!({"time": at, "name": link.name, "rxBytes": link.rx_bytes, "rxErrors": link.rx_errors,
            "txBytes": link.tx_bytes, "txErrors": link.tx_errors})
    });
    let mut told = json!({
        "podRef": {"name": sandbox.pod.name, "namespace": sandbox.pod.namespace, "uid": sandbox.pod.uid},
        "startTime": sandbox.created_at.to_seconds_string(),
        "containers": stats.containers.iter().map(|stats| container(stats, sandbox)).collect::<Vec<_>>(),
        "cpu": cpu(stats.cpu, &at),
        "memory": memory(stats.memory, &at),
        "process_stats": {"process_count": stats.processes.count}
    });
    if let Some(network) = network {
        told["network"] = network;
    }
    told
}

fn container(stats: &ContainerStats, sandbox: &cri::PodSandbox) -> Value {
    let at = stats.at.to_seconds_string();
    json!({
        "name": stats.name,
        "startTime": sandbox.created_at.to_seconds_string(),
        "cpu": cpu(stats.cpu, &at),
        "memory": memory(stats.memory, &at),
        "rootfs": {"time": at, "usedBytes": stats.writable_layer.used_bytes, "inodesUsed": stats.writable_layer.inodes_used}
    })
}

fn cpu(usage: cri::CpuUsage, at: &str) -> Value {
    json!({"time": at, "usageCoreNanoSeconds": usage.usage_core_nanoseconds})
}

fn memory(usage: cri::MemoryUsage, at: &str) -> Value {
    let mut told = json!({
        "time": at,
        "usageBytes": usage.usage_bytes,
        "workingSetBytes": usage.working_set_bytes,
        "rssBytes": usage.rss_bytes,
        "pageFaults": usage.page_faults,
        "majorPageFaults": usage.major_page_faults
    });
    if let Some(limit) = usage.limit_bytes {
        told["availableBytes"] = limit.saturating_sub(usage.working_set_bytes).into();
    }
    told
}

async fn node(kubelet: &Kubelet) -> Value {
    let services = &kubelet.services;
    let now = services.clock.now().to_seconds_string();
    let started = services.started_at.to_seconds_string();
    let mut told = json!({"nodeName": services.config.node_name, "startTime": started});
    if let Ok(memory) = linux::system::memory_info() {
        told["memory"] = json!({"time": now, "availableBytes": memory.available_bytes,
            "usageBytes": memory.total_bytes - memory.free_bytes.min(memory.total_bytes),
            "workingSetBytes": memory.total_bytes - memory.available_bytes.min(memory.total_bytes)});
    }
    if let Some(nanoseconds) = cpu_of_node() {
        told["cpu"] = json!({"time": now, "usageCoreNanoSeconds": nanoseconds});
    }
    if let Ok(disk) = linux::system::disk_info(&services.config.root_directory) {
        told["fs"] = disk_usage(&disk, &now);
    }
    if let Ok(images) = services.images.fs_info().await {
        let mut runtime = json!({});
        if let Ok(disk) = linux::system::disk_info(&images.images.mountpoint) {
            runtime["imageFs"] = disk_usage(&disk, &now);
            runtime["imageFs"]["usedBytes"] = images.images.used_bytes.into();
        }
        told["runtime"] = runtime;
    }
    told
}

fn disk_usage(disk: &linux::system::DiskInfo, now: &str) -> Value {
    json!({"time": now, "availableBytes": disk.available_bytes, "capacityBytes": disk.total_bytes,
        "usedBytes": disk.used_bytes, "inodesFree": disk.inodes_free, "inodes": disk.inodes,
        "inodesUsed": disk.inodes - disk.inodes_free.min(disk.inodes)})
}

/// Busy time of all cores since boot, from /proc/stat (hundredths of a second).
pub(crate) fn cpu_of_node() -> Option<u64> {
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let busy: u64 = fields
        .iter()
        .enumerate()
        .filter(|(index, _)| !matches!(index, 3 | 4) && *index < 8)
        .map(|(_, ticks)| ticks)
        .sum();
    Some(busy * NANOSECONDS_PER_TICK)
}

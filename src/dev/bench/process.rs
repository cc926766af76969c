//! What the kernel says about processes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use linux::NetworkNamespace;

const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn load_average() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text
        .split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" "))
}

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    kilobytes(&format!("/proc/{pid}/status"), &["VmRSS:"])
}

/// Resident memory that is not of files, in bytes.
pub(crate) fn resident_anonymous(pid: u32) -> anyhow::Result<u64> {
    kilobytes(&format!("/proc/{pid}/status"), &["RssAnon:"])
}

/// Memory that no other process shares, in bytes.
pub(crate) fn private(pid: u32) -> anyhow::Result<u64> {
    kilobytes(
        &format!("/proc/{pid}/smaps_rollup"),
        &["Private_Clean:", "Private_Dirty:"],
    )
}

/// Memory with what other processes share counted in parts, in bytes.
pub(crate) fn proportional(pid: u32) -> anyhow::Result<u64> {
    kilobytes(&format!("/proc/{pid}/smaps_rollup"), &["Pss:"])
}

/// Bytes sent to disks so far.
pub(crate) fn written(pid: u32) -> anyhow::Result<u64> {
    sum(&format!("/proc/{pid}/io"), &["write_bytes:"])
}

fn kilobytes(path: &str, fields: &[&str]) -> anyhow::Result<u64> {
    Ok(sum(path, fields)? * 1024)
}

fn sum(path: &str, fields: &[&str]) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let values = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let field = words.next()?;
        fields
            .contains(&field)
            .then(|| words.next()?.parse::<u64>().ok())
            .flatten()
    });
    Ok(values.sum())
}

/// Time on a processor so far.
pub(crate) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text
        .rsplit_once(')')
        .context("/proc/<pid>/stat has a name")?;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(Duration::from_secs_f64(ticks / CLOCK_TICKS_PER_SECOND))
}

/// The shims of a data folder.
pub(crate) fn shims(data_dir: &Path) -> anyhow::Result<Vec<u32>> {
    let folder = data_dir.display().to_string();
    let all = all()?.into_iter().filter(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        command.contains("__shim") && command.contains(&folder)
    });
    Ok(all.collect())
}

/// The network of a pod that runs here.
pub(crate) fn network_of_pod(uid: &str) -> anyhow::Result<NetworkNamespace> {
    let is_its = |pid: &u32| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
        groups.is_ok_and(|groups| groups.contains(uid))
    };
    let pid = all()?.into_iter().find(is_its);
    let pid = pid.with_context(|| format!("the pod {uid} has no process"))?;
    Ok(NetworkNamespace::open(Path::new(&format!(
        "/proc/{pid}/ns/net"
    )))?)
}

fn all() -> anyhow::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    Ok(numbers.collect())
}

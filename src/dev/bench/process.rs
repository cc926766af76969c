//! What the kernel says about processes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

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

fn kilobytes(path: &str, fields: &[&str]) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let values = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let field = words.next()?;
        fields
            .contains(&field)
            .then(|| words.next()?.parse::<u64>().ok())
            .flatten()
    });
    Ok(values.sum::<u64>() * 1024)
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
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        if command.contains("__shim") && command.contains(&folder) {
            found.push(pid);
        }
    }
    Ok(found)
}

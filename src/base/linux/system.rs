//! What the machine has: memory and disks.

use crate::error::{Doing, Error, Result};
use std::path::Path;

/// Memory of the machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryInfo {
    pub total_bytes: u64,
    pub available_bytes: u64,
    pub free_bytes: u64,
    pub swap_total_bytes: u64,
    pub swap_free_bytes: u64,
}

/// A mounted filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskInfo {
    pub total_bytes: u64,
    /// What an unprivileged process may still write.
    pub available_bytes: u64,
    pub used_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// Reads /proc/meminfo.
pub fn memory_info() -> Result<MemoryInfo> {
    let text =
        std::fs::read_to_string("/proc/meminfo").doing(|| "read /proc/meminfo".to_owned())?;
    let field = |name: &str| kilobytes(&text, name).unwrap_or(0);
    if field("MemTotal:") == 0 {
        return Err(Error::other("read /proc/meminfo", "MemTotal is missing"));
    }
    Ok(MemoryInfo {
        total_bytes: field("MemTotal:"),
        available_bytes: field("MemAvailable:"),
        free_bytes: field("MemFree:"),
        swap_total_bytes: field("SwapTotal:"),
        swap_free_bytes: field("SwapFree:"),
    })
}

/// The filesystem a path lies on.
pub fn disk_info(path: &Path) -> Result<DiskInfo> {
    let stat = rustix::fs::statvfs(path).doing(|| format!("statvfs {}", path.display()))?;
    Ok(DiskInfo {
        total_bytes: stat.f_blocks * stat.f_frsize,
        available_bytes: stat.f_bavail * stat.f_frsize,
        used_bytes: (stat.f_blocks - stat.f_bfree) * stat.f_frsize,
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

/// The host's name, as `uname -n` tells it.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// `(major, minor, patch)` of the running kernel; parts that do not parse are 0.
pub fn kernel_version() -> (u32, u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(number * 1024)
}

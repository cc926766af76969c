//! How much is left of what a node can run out of, against the thresholds.

use std::path::Path;

use apimachinery::Quantity;

use crate::eviction::Thresholds;
use crate::node::Pressure;

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measures {
    pub(crate) memory_available: u64,
    pub(crate) node_disk: Option<Disk>,
    pub(crate) image_disk: Option<Disk>,
    /// Free and most processes and threads.
    pub(crate) pids: Option<(u64, u64)>,
}

/// Bytes and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) capacity: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

/// A threshold that is passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) pressure: Pressure,
    /// The resource's name in messages.
    pub(crate) resource: &'static str,
    pub(crate) threshold: String,
    pub(crate) available: String,
}

impl Measures {
    pub(crate) fn take(root: &Path, images: &Path) -> Self {
        let disk = |path: &Path| {
            let info = linux::system::disk_info(path).ok()?;
            Some(Disk {
                capacity: info.total_bytes,
                available: info.available_bytes,
                inodes: info.inodes,
                inodes_free: info.inodes_free,
            })
        };
        Self {
            // Unknown memory counts as enough.
            memory_available: linux::system::memory_info()
                .map_or(u64::MAX, |memory| memory.available_bytes),
            node_disk: disk(root),
            image_disk: if images.as_os_str().is_empty() {
                None
            } else {
                disk(images)
            },
            pids: pids(),
        }
    }
}

fn pids() -> Option<(u64, u64)> {
    let most: u64 = std::fs::read_to_string("/proc/sys/kernel/pid_max")
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    // The fourth field: running/all.
    let now: u64 = load
        .split_whitespace()
        .nth(3)?
        .split_once('/')?
        .1
        .parse()
        .ok()?;
    Some((most.saturating_sub(now), most))
}

/// Thresholds that are passed, in the order they are acted on.
pub(crate) fn shortages(measures: &Measures, thresholds: &Thresholds) -> Vec<Shortage> {
    let bytes =
        |bytes: u64| Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX)).to_string();
    let mut found = Vec::new();
    let memory_min = u64::try_from(thresholds.memory_available_bytes).unwrap_or(0);
    if measures.memory_available < memory_min {
        found.push(Shortage {
            pressure: Pressure::Memory,
            resource: "memory",
            threshold: bytes(memory_min),
            available: bytes(measures.memory_available),
        });
    }
    let mut disk = |disk: Option<Disk>, bytes_percent: u64, inodes_percent: u64| {
        let Some(disk) = disk else { return };
        let least = disk.capacity / 100 * bytes_percent;
        if disk.available < least {
            found.push(Shortage {
                pressure: Pressure::Disk,
                resource: "ephemeral-storage",
                threshold: bytes(least),
                available: bytes(disk.available),
            });
        }
        // File systems without a fixed number of inodes tell 0.
        let least = disk.inodes / 100 * inodes_percent;
        if disk.inodes > 0 && disk.inodes_free < least {
            found.push(Shortage {
                pressure: Pressure::Disk,
                resource: "inodes",
                threshold: least.to_string(),
                available: disk.inodes_free.to_string(),
            });
        }
    };
    disk(
        measures.node_disk,
        thresholds.nodefs_available_percent,
        thresholds.nodefs_inodes_free_percent,
    );
    disk(
        measures.image_disk,
        thresholds.imagefs_available_percent,
        thresholds.nodefs_inodes_free_percent,
    );
    if let Some((free, most)) = measures.pids {
        let least = most / 100 * thresholds.pids_available_percent;
        if free < least {
            found.push(Shortage {
                pressure: Pressure::Pid,
                resource: "pids",
                threshold: least.to_string(),
                available: free.to_string(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_names_what_is_left_and_what_should_be() {
        let disk = Disk {
            capacity: 1000,
            available: 500,
            inodes: 1000,
            inodes_free: 10,
        };
        let measures = Measures {
            memory_available: 50 << 20,
            node_disk: Some(disk),
            image_disk: None,
            pids: Some((1, 100)),
        };
        let found = shortages(&measures, &Thresholds::default());
        let names: Vec<&str> = found.iter().map(|shortage| shortage.resource).collect();
        assert_eq!(names, ["memory", "inodes"]);
        assert_eq!(
            (found[0].threshold.as_str(), found[0].available.as_str()),
            ("100Mi", "50Mi")
        );
    }
}

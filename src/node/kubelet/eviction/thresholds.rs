//! When the node counts as short of something.

/// Hard thresholds, upstream's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Bytes.
    pub memory_available_bytes: i64,
    pub nodefs_available_percent: u64,
    pub nodefs_inodes_free_percent: u64,
    pub imagefs_available_percent: u64,
    /// Percent of the kernel's limit of processes that must be free.
    pub pids_available_percent: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            memory_available_bytes: 100 * 1024 * 1024,
            nodefs_available_percent: 10,
            nodefs_inodes_free_percent: 5,
            imagefs_available_percent: 15,
            pids_available_percent: 0,
        }
    }
}

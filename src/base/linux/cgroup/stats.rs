//! What a group uses, read from its files.

use super::{Cgroup, CgroupVersion};

/// Usage of a group; a controller that is missing counts as 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupStats {
    pub cpu_usage_nanoseconds: u64,
    pub memory: MemoryStats,
    pub pids: u64,
}

/// Memory of a group, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStats {
    pub usage_bytes: u64,
    /// Usage without inactive page cache.
    pub working_set_bytes: u64,
    pub rss_bytes: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// `None`: no limit.
    pub limit_bytes: Option<u64>,
}

/// v1 writes "no limit" as the largest multiple of the page size; anything above this is none.
const V1_NO_LIMIT_BYTES: u64 = 1 << 62;

impl Cgroup {
    pub fn stats(&self) -> CgroupStats {
        match self.version() {
            CgroupVersion::V1 => self.stats_v1(),
            CgroupVersion::V2 => self.stats_v2(),
        }
    }

    /// How many processes of the group the kernel killed for lack of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = match self.version() {
            CgroupVersion::V1 => "memory.oom_control",
            CgroupVersion::V2 => "memory.events",
        };
        self.field("memory", file, "oom_kill")
    }

    fn stats_v1(&self) -> CgroupStats {
        let usage = self.number("memory", "memory.usage_in_bytes");
        let stat = |name| self.field("memory", "memory.stat", name);
        let limit = self.number("memory", "memory.limit_in_bytes");
        CgroupStats {
            cpu_usage_nanoseconds: self.number("cpuacct", "cpuacct.usage"),
            memory: MemoryStats {
                usage_bytes: usage,
                working_set_bytes: usage.saturating_sub(stat("total_inactive_file")),
                rss_bytes: stat("total_rss"),
                page_faults: stat("total_pgfault"),
                major_page_faults: stat("total_pgmajfault"),
                limit_bytes: (limit > 0 && limit < V1_NO_LIMIT_BYTES).then_some(limit),
            },
            pids: self.number("pids", "pids.current"),
        }
    }

    fn stats_v2(&self) -> CgroupStats {
        let usage = self.number("memory", "memory.current");
        let stat = |name| self.field("memory", "memory.stat", name);
        let limit = self
            .read("memory", "memory.max")
            .and_then(|text| text.trim().parse().ok());
        CgroupStats {
            cpu_usage_nanoseconds: self.field("cpu", "cpu.stat", "usage_usec") * 1000,
            memory: MemoryStats {
                usage_bytes: usage,
                working_set_bytes: usage.saturating_sub(stat("inactive_file")),
                rss_bytes: stat("anon"),
                page_faults: stat("pgfault"),
                major_page_faults: stat("pgmajfault"),
                limit_bytes: limit,
            },
            pids: self.number("pids", "pids.current"),
        }
    }

    fn number(&self, controller: &str, file: &str) -> u64 {
        self.read(controller, file)
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    fn field(&self, controller: &str, file: &str, name: &str) -> u64 {
        let text = self.read(controller, file).unwrap_or_default();
        let found = text.lines().find_map(|line| {
            let (key, value) = line.split_once(' ')?;
            (key == name).then(|| value.trim().parse().ok()).flatten()
        });
        found.unwrap_or(0)
    }
}

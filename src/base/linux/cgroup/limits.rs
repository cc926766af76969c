//! Limits as files and values: computed here, written elsewhere.

use super::CgroupVersion;
use std::collections::BTreeMap;

/// Limits of a group. `None` leaves what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// 2 to 262144, v1's scale.
    pub cpu_shares: Option<u64>,
    /// Microseconds of each period; -1 for no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Bytes; -1 for no limit.
    pub memory: Option<i64>,
    /// Memory and swap together, bytes; -1 for no limit.
    pub memory_and_swap: Option<i64>,
    /// -1 for no limit.
    pub pids: Option<i64>,
    pub huge_pages: Vec<HugePageLimit>,
    /// v2 files and their values.
    pub unified: BTreeMap<String, String>,
}

/// A limit of one size of huge pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePageLimit {
    /// As in the names of the files: `2MB`, `1GB`.
    pub page_size: String,
    pub bytes: u64,
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
    /// A file that this kernel may lack without harm (swap accounting is off).
    pub(super) optional: bool,
}

/// What to write, in order.
pub(super) fn writes(
    version: CgroupVersion,
    limits: &CgroupLimits,
    current_memory: i64,
) -> Vec<Write> {
    match version {
        CgroupVersion::V1 => v1(limits, current_memory),
        CgroupVersion::V2 => v2(limits),
    }
}

fn write(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Write {
    Write {
        controller,
        file: file.into(),
        value: value.to_string(),
        optional: false,
    }
}

fn v1(limits: &CgroupLimits, current_memory: i64) -> Vec<Write> {
    let mut out = Vec::new();
    out.extend(
        limits
            .cpu_shares
            .map(|shares| write("cpu", "cpu.shares", shares)),
    );
    out.extend(
        limits
            .cpu_period
            .map(|period| write("cpu", "cpu.cfs_period_us", period)),
    );
    out.extend(
        limits
            .cpu_quota
            .map(|quota| write("cpu", "cpu.cfs_quota_us", quota)),
    );
    out.extend(cpuset(limits));
    let memory = limits
        .memory
        .map(|bytes| write("memory", "memory.limit_in_bytes", bytes));
    let swap = limits.memory_and_swap.map(|bytes| Write {
        optional: true,
        ..write("memory", "memory.memsw.limit_in_bytes", bytes)
    });
    // The kernel refuses a moment in which memory is above memory and swap.
    let raises = limits
        .memory
        .is_some_and(|bytes| bytes < 0 || (current_memory >= 0 && bytes > current_memory));
    if raises {
        out.extend(swap);
        out.extend(memory);
    } else {
        out.extend(memory);
        out.extend(swap);
    }
    out.extend(pids(limits));
    for limit in &limits.huge_pages {
        out.push(write(
            "hugetlb",
            format!("hugetlb.{}.limit_in_bytes", limit.page_size),
            limit.bytes,
        ));
    }
    out
}

fn v2(limits: &CgroupLimits) -> Vec<Write> {
    let mut out = Vec::new();
    out.extend(
        limits
            .cpu_shares
            .map(|shares| write("cpu", "cpu.weight", weight_of_shares(shares))),
    );
    if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
        let quota = limits.cpu_quota.filter(|quota| *quota > 0);
        let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        let value = match limits.cpu_period {
            Some(period) => format!("{quota} {period}"),
            None => quota,
        };
        out.push(write("cpu", "cpu.max", value));
    }
    out.extend(cpuset(limits));
    out.extend(
        limits
            .memory
            .map(|bytes| write("memory", "memory.max", max_or(bytes))),
    );
    if let Some(both) = limits.memory_and_swap {
        let swap = match limits.memory {
            Some(memory) if both >= 0 && memory >= 0 => (both - memory).max(0),
            _ => both,
        };
        out.push(Write {
            optional: true,
            ..write("memory", "memory.swap.max", max_or(swap))
        });
    }
    out.extend(pids(limits));
    for limit in &limits.huge_pages {
        out.push(write(
            "hugetlb",
            format!("hugetlb.{}.max", limit.page_size),
            limit.bytes,
        ));
    }
    for (file, value) in &limits.unified {
        out.push(write("unified", file.clone(), value));
    }
    out
}

fn cpuset(limits: &CgroupLimits) -> Vec<Write> {
    let cpus = limits.cpuset_cpus.as_ref().filter(|cpus| !cpus.is_empty());
    let mems = limits.cpuset_mems.as_ref().filter(|mems| !mems.is_empty());
    let cpus = cpus.map(|cpus| write("cpuset", "cpuset.cpus", cpus));
    cpus.into_iter()
        .chain(mems.map(|mems| write("cpuset", "cpuset.mems", mems)))
        .collect()
}

fn pids(limits: &CgroupLimits) -> Option<Write> {
    limits
        .pids
        .map(|pids| write("pids", "pids.max", max_or(pids)))
}

fn max_or(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// The weight for shares, on the curve that runc and crun agreed on: 2 → 1, 1024 → 100, 262144 → 10000.
fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    #[expect(clippy::cast_precision_loss, reason = "at most 2^18")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "1 to 10000"
    )]
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_memory_raises_memory_and_swap_first_and_lowering_it_last() {
        let limits = CgroupLimits {
            memory: Some(200),
            memory_and_swap: Some(200),
            ..Default::default()
        };
        let files = |current| -> Vec<String> {
            v1(&limits, current)
                .into_iter()
                .map(|write| write.file)
                .collect()
        };
        assert_eq!(
            files(100),
            ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]
        );
        assert_eq!(
            files(300),
            ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        );
    }

    #[test]
    fn shares_become_weights_on_the_agreed_curve() {
        assert_eq!([2, 1024, 262_144].map(weight_of_shares), [1, 100, 10_000]);
    }

    #[test]
    fn v2_writes_quota_and_period_as_one_value_and_swap_alone() {
        let limits = CgroupLimits {
            cpu_quota: Some(5000),
            cpu_period: Some(100_000),
            memory: Some(64),
            memory_and_swap: Some(96),
            pids: Some(-1),
            ..Default::default()
        };
        let values: Vec<(String, String)> = v2(&limits)
            .into_iter()
            .map(|write| (write.file, write.value))
            .collect();
        let wanted = [
            ("cpu.max", "5000 100000"),
            ("memory.max", "64"),
            ("memory.swap.max", "32"),
            ("pids.max", "max"),
        ];
        assert_eq!(
            values,
            wanted.map(|(file, value)| (file.to_owned(), value.to_owned()))
        );
    }
}

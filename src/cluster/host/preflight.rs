//! Whether Combo can run on a machine: one finding per thing looked at, and what to do about it.

use linux::cgroup::CgroupVersion;
use serde::Serialize;

use crate::facts::{DiskFacts, HostFacts};

/// `clone3` into a control group, `pidfd`s, mounts by descriptor and time namespaces are all there.
const KERNEL_MIN: (u32, u32) = (5, 11);
/// The sizes that processors of 64 bits have; what hands out memory asks the kernel for its own.
const PAGE_BYTES: &[usize] = &[4 << 10, 16 << 10, 64 << 10];
const DISK_BYTES_MIN: u64 = 256 << 20;
const DISK_BYTES_ADVISED: u64 = 2 << 30;
const INODES_MIN: u64 = 10_000;
const MEMORY_BYTES_MIN: u64 = 128 << 20;
const MEMORY_BYTES_ADVISED: u64 = 420 << 20;
/// Filesystems that an overlay cannot write on, or that keep no owners and modes.
const FILESYSTEMS_UNFIT: &[&str] = &[
    "nfs", "nfs4", "cifs", "smb3", "vfat", "exfat", "msdos", "ntfs", "ntfs3", "9p", "fuseblk",
    "overlay", "squashfs",
];
/// The beginning of the year in which this was written: a clock before it was never set.
const CLOCK_MIN_UNIX: u64 = 1_767_225_600;
const OWN_PROCESS: &str = "combo";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// It runs, with something missing.
    Warning,
    /// It does not run.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub level: Level,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            message: message.into(),
            fix: None,
        }
    }

    fn bad(
        check: &'static str,
        level: Level,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check,
            level,
            message: message.into(),
            fix: Some(fix.into()),
        }
    }
}

/// What the facts mean, in the order in which a person would mend them.
pub fn findings(facts: &HostFacts) -> Vec<Finding> {
    let mut all = vec![
        user(facts),
        architecture(facts),
        page_size(facts),
        kernel(facts),
    ];
    all.push(namespaces(facts));
    all.push(present(
        "seccomp",
        facts.has_seccomp,
        "the kernel filters no system calls",
        "boot a kernel with CONFIG_SECCOMP_FILTER",
    ));
    all.push(present(
        "overlay",
        facts.has_overlay,
        "the kernel has no overlay filesystem, which images are mounted with",
        "load it with `modprobe overlay`, or boot a kernel with CONFIG_OVERLAY_FS",
    ));
    all.push(tried(
        "pod links",
        &facts.links,
        "install the kernel's modules veth and bridge (on Ubuntu linux-modules-extra-raspi or linux-modules-extra), \
         or boot a kernel with CONFIG_VETH and CONFIG_BRIDGE",
    ));
    all.push(tried(
        "nftables",
        &facts.nftables,
        "install the kernel's module nf_tables, or boot a kernel with CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET and \
         CONFIG_NFT_NAT",
    ));
    all.extend(overlays(facts));
    all.extend(control_groups(facts));
    all.push(memory(facts));
    all.push(disk(facts.disk.as_ref()));
    all.extend(port_findings(facts));
    all.push(clock(facts));
    if facts.has_firewalld {
        all.push(Finding::bad(
            "firewall",
            Level::Warning,
            "firewalld runs: it drops what pods send and receive unless it is told of them",
            "stop it with `systemctl disable --now firewalld`, or trust the pod and Service ranges: \
             `firewall-cmd --permanent --zone=trusted --add-source=10.42.0.0/16 --add-source=10.43.0.0/16`",
        ));
    }
    all
}

fn user(facts: &HostFacts) -> Finding {
    if facts.is_root {
        return Finding::ok("user", "root");
    }
    Finding::bad(
        "user",
        Level::Error,
        "this user may not make namespaces, mounts and network links",
        "run it as root, for example with sudo",
    )
}

fn architecture(facts: &HostFacts) -> Finding {
    match facts.machine.as_str() {
        "x86_64" | "aarch64" => Finding::ok("architecture", &facts.machine),
        machine => Finding::bad(
            "architecture",
            Level::Error,
            format!("{machine} is not supported: x86_64 and aarch64 are"),
            "install a 64-bit system; a Raspberry Pi 1 and Zero (armv6) have no 64-bit processor and cannot run it",
        ),
    }
}

fn page_size(facts: &HostFacts) -> Finding {
    let kib = facts.page_bytes >> 10;
    if PAGE_BYTES.contains(&facts.page_bytes) {
        return Finding::ok("page size", format!("{kib} KiB"));
    }
    Finding::bad(
        "page size",
        Level::Error,
        format!("pages of {kib} KiB are not supported: 4, 16 and 64 KiB are"),
        "boot a kernel with pages of 4 KiB",
    )
}

fn kernel(facts: &HostFacts) -> Finding {
    let (major, minor, patch) = facts.kernel;
    let version = format!("{major}.{minor}.{patch}");
    if (major, minor) >= KERNEL_MIN {
        return Finding::ok("kernel", version);
    }
    let (major, minor) = KERNEL_MIN;
    Finding::bad(
        "kernel",
        Level::Error,
        format!("{version} is too old: {major}.{minor} or later is needed"),
        "upgrade the system, or boot a newer kernel",
    )
}

fn namespaces(facts: &HostFacts) -> Finding {
    let missing = &facts.namespaces_missing;
    match missing.as_slice() {
        [] => Finding::ok("namespaces", "all kinds"),
        ["user"] => Finding::bad(
            "namespaces",
            Level::Warning,
            "the kernel has no user namespaces: pods with `hostUsers: false` will not start",
            "boot a kernel with CONFIG_USER_NS",
        ),
        _ => Finding::bad(
            "namespaces",
            Level::Error,
            format!("the kernel lacks {}", missing.join(", ")),
            "boot a kernel with CONFIG_NAMESPACES and all its kinds",
        ),
    }
}

fn present(check: &'static str, is_there: bool, why: &str, fix: &str) -> Finding {
    if is_there {
        Finding::ok(check, "there")
    } else {
        Finding::bad(check, Level::Error, why, fix)
    }
}

fn tried(check: &'static str, trial: &Result<(), String>, fix: &str) -> Finding {
    match trial {
        Ok(()) => Finding::ok(check, "tried and works"),
        Err(why) => Finding::bad(
            check,
            Level::Error,
            format!("tried, and refused: {why}"),
            fix,
        ),
    }
}

/// One node needs neither.
fn overlays(facts: &HostFacts) -> Option<Finding> {
    let name = "network between nodes";
    match (facts.vxlan, facts.wireguard) {
        (None, None) => None,
        (Some(false), Some(true)) => Some(Finding::bad(
            name,
            Level::Warning,
            "the kernel has no vxlan, the default between several nodes",
            "install its module (on Ubuntu linux-modules-extra-raspi), or use wireguard or host-gw",
        )),
        (Some(false), _) => Some(Finding::bad(
            name,
            Level::Warning,
            "the kernel has neither vxlan nor wireguard: several nodes must share one network and use host-gw",
            "install the module vxlan (on Ubuntu linux-modules-extra-raspi); a single node needs none",
        )),
        (vxlan, wireguard) => {
            let names = [("vxlan", vxlan), ("wireguard", wireguard)];
            let there = names.iter().filter(|(_, has)| *has == Some(true));
            let there: Vec<&str> = there.map(|(name, _)| *name).collect();
            Some(Finding::ok(name, there.join(", ")))
        }
    }
}

fn control_groups(facts: &HostFacts) -> Vec<Finding> {
    let (version, controllers) = match &facts.cgroups {
        Ok(found) => found,
        Err(why) => {
            return vec![Finding::bad(
                "control groups",
                Level::Error,
                why,
                "mount them: `mount -t cgroup2 cgroup2 /sys/fs/cgroup`; on Alpine `rc-update add cgroups boot`",
            )];
        }
    };
    let has = |name: &str| controllers.iter().any(|found| found == name);
    let number = match version {
        CgroupVersion::V1 => 1,
        CgroupVersion::V2 => 2,
    };
    let mut all = vec![Finding::ok("control groups", format!("version {number}"))];
    if !has("memory") {
        let fix = if facts.is_raspberry_pi {
            "add `cgroup_enable=memory cgroup_memory=1` to the one line of /boot/firmware/cmdline.txt and reboot; \
             install.sh does it"
        } else {
            "boot with `cgroup_enable=memory`, or a kernel with CONFIG_MEMCG"
        };
        all.push(Finding::bad(
            "memory controller",
            Level::Warning,
            "the kernel counts no memory: it runs, limits on memory are not enforced",
            fix,
        ));
    }
    for (name, option) in [
        ("cpu", "CONFIG_CGROUP_SCHED"),
        ("pids", "CONFIG_CGROUP_PIDS"),
    ] {
        if !has(name) {
            all.push(Finding::bad(
                "control groups",
                Level::Warning,
                format!("the controller {name} is missing: its limits are not enforced"),
                format!("boot a kernel with {option}"),
            ));
        }
    }
    all
}

fn memory(facts: &HostFacts) -> Finding {
    let mebibytes = facts.memory_bytes >> 20;
    if facts.memory_bytes >= MEMORY_BYTES_ADVISED {
        return Finding::ok("memory", format!("{mebibytes} MiB"));
    }
    let (level, what) = if facts.memory_bytes >= MEMORY_BYTES_MIN {
        (Level::Warning, "there is little room for pods")
    } else {
        (Level::Error, "a server and its node do not fit")
    };
    let advised = MEMORY_BYTES_ADVISED >> 20;
    Finding::bad(
        "memory",
        level,
        format!("{mebibytes} MiB: {what}"),
        format!("{advised} MiB or more, or swap, for example zram"),
    )
}

fn disk(disk: Option<&DiskFacts>) -> Finding {
    let Some(disk) = disk else {
        return Finding::bad(
            "disk",
            Level::Error,
            "the filesystem of the data folder cannot be looked at",
            "choose another folder with --data-dir",
        );
    };
    let mebibytes = disk.available_bytes >> 20;
    let place = format!("{} ({})", disk.folder.display(), disk.filesystem);
    let elsewhere = "choose a folder on a local disk with ext4, xfs or btrfs: --data-dir";
    if FILESYSTEMS_UNFIT.contains(&disk.filesystem.as_str()) {
        let why = format!("{place}: images cannot be mounted on it");
        return Finding::bad("disk", Level::Error, why, elsewhere);
    }
    if disk.is_read_only {
        return Finding::bad(
            "disk",
            Level::Error,
            format!("{place} is read-only"),
            elsewhere,
        );
    }
    if disk.is_no_exec {
        let why = format!("{place} is mounted noexec: no container could start");
        let fix = format!("mount it with exec, or {elsewhere}");
        return Finding::bad("disk", Level::Error, why, fix);
    }
    if disk.available_bytes < DISK_BYTES_MIN || disk.inodes_free < INODES_MIN {
        let why = format!(
            "{place}: {mebibytes} MiB and {} files are free",
            disk.inodes_free
        );
        return Finding::bad(
            "disk",
            Level::Error,
            why,
            format!("free {} MiB, or {elsewhere}", DISK_BYTES_MIN >> 20),
        );
    }
    if disk.available_bytes < DISK_BYTES_ADVISED {
        return Finding::bad(
            "disk",
            Level::Warning,
            format!("{place}: {mebibytes} MiB are free, little for images"),
            format!("free {} MiB, or {elsewhere}", DISK_BYTES_ADVISED >> 20),
        );
    }
    Finding::ok("disk", format!("{place}: {mebibytes} MiB free"))
}

/// A port that Combo itself holds is that of the server which is upgraded.
fn port_findings(facts: &HostFacts) -> Vec<Finding> {
    let taken = facts
        .listeners
        .iter()
        .filter(|listener| listener.process.as_deref() != Some(OWN_PROCESS));
    let all: Vec<Finding> = taken
        .map(|listener| {
            let process = listener.process.as_deref().unwrap_or("another process");
            Finding::bad(
                "ports",
                Level::Error,
                format!("port {} is taken by {process}", listener.port),
                "stop it, or choose another with --https-listen-port or --kubelet-port",
            )
        })
        .collect();
    if all.is_empty() {
        return vec![Finding::ok("ports", "free")];
    }
    all
}

fn clock(facts: &HostFacts) -> Finding {
    if facts.unix_seconds >= CLOCK_MIN_UNIX {
        return Finding::ok("clock", "set");
    }
    Finding::bad(
        "clock",
        Level::Warning,
        "the clock is years behind: certificates begin at the build date until it is set",
        "set it, or let NTP do so; boards without a battery-backed clock can use fake-hwclock",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Listener;
    use std::path::PathBuf;

    fn good() -> HostFacts {
        let controllers = ["cpu", "memory", "pids"].map(str::to_owned).to_vec();
        HostFacts {
            is_root: true,
            machine: "aarch64".to_owned(),
            page_bytes: 16 << 10,
            kernel: (6, 6, 0),
            cgroups: Ok((CgroupVersion::V2, controllers)),
            namespaces_missing: Vec::new(),
            has_seccomp: true,
            has_overlay: true,
            links: Ok(()),
            nftables: Ok(()),
            vxlan: Some(true),
            wireguard: None,
            memory_bytes: 475 << 20,
            disk: Some(DiskFacts {
                folder: PathBuf::from("/var/lib"),
                filesystem: "ext4".to_owned(),
                is_read_only: false,
                is_no_exec: false,
                available_bytes: 9 << 30,
                inodes_free: 1 << 20,
            }),
            listeners: Vec::new(),
            unix_seconds: CLOCK_MIN_UNIX,
            has_firewalld: false,
            is_raspberry_pi: false,
        }
    }

    /// The check and level of what is not as it should be.
    fn wrong(change: impl FnOnce(&mut HostFacts)) -> Vec<(&'static str, Level)> {
        let mut facts = good();
        change(&mut facts);
        let bad = findings(&facts)
            .into_iter()
            .filter(|finding| finding.level != Level::Ok);
        bad.map(|finding| {
            assert!(finding.fix.is_some(), "{finding:?} has no fix");
            (finding.check, finding.level)
        })
        .collect()
    }

    #[test]
    fn a_good_machine_has_nothing_to_mend() {
        assert_eq!(wrong(|_| ()), []);
    }

    #[test]
    fn what_stops_it_is_an_error_with_a_fix() {
        use Level::Error;
        let of_disk = |change: fn(&mut DiskFacts)| {
            wrong(|facts| change(facts.disk.as_mut().expect("a disk")))
        };
        assert_eq!(
            wrong(|facts| facts.machine = "armv6l".into()),
            [("architecture", Error)]
        );
        assert_eq!(
            wrong(|facts| facts.page_bytes = 8 << 10),
            [("page size", Error)]
        );
        assert_eq!(
            wrong(|facts| facts.kernel = (5, 10, 200)),
            [("kernel", Error)]
        );
        assert_eq!(wrong(|facts| facts.is_root = false), [("user", Error)]);
        assert_eq!(
            wrong(|facts| facts.namespaces_missing = vec!["net", "user"]),
            [("namespaces", Error)]
        );
        assert_eq!(
            wrong(|facts| facts.nftables = Err("no".into())),
            [("nftables", Error)]
        );
        assert_eq!(
            wrong(|facts| facts.cgroups = Err("none".into())),
            [("control groups", Error)]
        );
        assert_eq!(
            wrong(|facts| facts.memory_bytes = 64 << 20),
            [("memory", Error)]
        );
        assert_eq!(
            of_disk(|disk| disk.filesystem = "vfat".into()),
            [("disk", Error)]
        );
        assert_eq!(of_disk(|disk| disk.is_no_exec = true), [("disk", Error)]);
        assert_eq!(
            of_disk(|disk| disk.available_bytes = 1 << 20),
            [("disk", Error)]
        );
        assert_eq!(of_disk(|disk| disk.inodes_free = 9), [("disk", Error)]);
    }

    #[test]
    fn what_it_can_do_without_is_a_warning() {
        use Level::Warning;
        let without_memory = Ok((CgroupVersion::V2, vec!["cpu".to_owned(), "pids".to_owned()]));
        assert_eq!(
            wrong(|facts| facts.cgroups = without_memory),
            [("memory controller", Warning)]
        );
        assert_eq!(
            wrong(|facts| facts.namespaces_missing = vec!["user"]),
            [("namespaces", Warning)]
        );
        assert_eq!(
            wrong(|facts| facts.vxlan = Some(false)),
            [("network between nodes", Warning)]
        );
        assert_eq!(wrong(|facts| facts.unix_seconds = 0), [("clock", Warning)]);
    }

    #[test]
    fn a_port_of_another_program_is_told_and_that_of_combo_is_not() {
        let listener = |process: Option<&str>| Listener {
            port: 6443,
            process: process.map(str::to_owned),
        };
        assert_eq!(
            wrong(|facts| facts.listeners = vec![listener(Some("combo"))]),
            []
        );
        assert_eq!(
            wrong(|facts| facts.listeners = vec![listener(Some("k3s-server")), listener(None)]),
            [("ports", Level::Error), ("ports", Level::Error)]
        );
    }
}

//! The OCI configuration that libcontainer gets: root, everything it may keep, and no filter.
//!
//! User, capabilities, filter and working directory are the executor's; see [`crate::executor`].

use super::devices::{HostDevice, device_nodes};
use super::mounts::root_propagation;
use cri::{ContainerConfig, Mount, Privilege, ProcMount};
use serde_json::{Value, json};
use std::path::Path;

/// What the configuration is made of.
pub(crate) struct SpecInputs<'a> {
    pub(crate) config: &'a ContainerConfig,
    pub(crate) rootfs: &'a Path,
    pub(crate) cgroup_path: &'a str,
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) mounts: Vec<Value>,
    pub(crate) pod_mounts: &'a [Mount],
    pub(crate) devices: &'a [HostDevice],
}

/// Namespaces to join by path; `None` is the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespaces {
    pub(crate) network: Option<String>,
    pub(crate) ipc: Option<String>,
    pub(crate) uts: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) pid: PidNamespace,
    /// A cgroup namespace of its own, where /sys/fs/cgroup shows the container's group as root (v2).
    pub(crate) has_cgroup: bool,
}

/// Which processes the container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PidNamespace {
    Own,
    Host,
    Path(String),
}

const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// `config.json` of a bundle.
pub(crate) fn oci_configuration(inputs: &SpecInputs<'_>) -> Value {
    let config = inputs.config;
    let mut linux = json!({
        "cgroupsPath": inputs.cgroup_path,
        "namespaces": namespaces(inputs.namespaces),
        "devices": device_nodes(inputs.devices),
        "maskedPaths": masked_paths(config),
        "readonlyPaths": readonly_paths(config),
    });
    if let Some(propagation) = root_propagation(inputs.pod_mounts) {
        linux["rootfsPropagation"] = json!(propagation);
    }
    json!({
        "ociVersion": "1.1.0",
        "process": process_document(config.tty),
        "root": {"path": inputs.rootfs, "readonly": config.security.read_only_root_filesystem},
        "mounts": inputs.mounts,
        "linux": linux,
    })
}

/// The process as libcontainer sees it, also for an exec: no capabilities key, or it would change the sets.
pub(crate) fn process_document(has_terminal: bool) -> Value {
    json!({
        "terminal": has_terminal,
        "user": {"uid": 0, "gid": 0},
        "args": ["last-mile"],
        "env": ["PATH=/"],
        "cwd": "/",
    })
}

fn namespaces(wanted: &Namespaces) -> Vec<Value> {
    let mut out = vec![json!({"type": "mount"})];
    let joined = [
        ("network", &wanted.network),
        ("ipc", &wanted.ipc),
        ("uts", &wanted.uts),
        ("user", &wanted.user),
    ];
    for (kind, path) in joined {
        out.extend(path.iter().map(|path| json!({"type": kind, "path": path})));
    }
    match &wanted.pid {
        PidNamespace::Own => out.push(json!({"type": "pid"})),
        PidNamespace::Path(path) => out.push(json!({"type": "pid", "path": path})),
        PidNamespace::Host => {}
    }
    if wanted.has_cgroup {
        out.push(json!({"type": "cgroup"}));
    }
    out
}

fn masked_paths(config: &ContainerConfig) -> Vec<String> {
    shielded_paths(config, MASKED_PATHS, &config.security.masked_paths)
}

fn readonly_paths(config: &ContainerConfig) -> Vec<String> {
    shielded_paths(config, READONLY_PATHS, &config.security.readonly_paths)
}

fn shielded_paths(config: &ContainerConfig, own: &[&str], more: &[String]) -> Vec<String> {
    if config.security.privilege == Privilege::Privileged {
        return Vec::new();
    }
    let own = match config.security.proc_mount {
        ProcMount::Default => own,
        ProcMount::Unmasked => &[],
    };
    own.iter()
        .map(|path| (*path).to_owned())
        .chain(more.iter().cloned())
        .collect()
}

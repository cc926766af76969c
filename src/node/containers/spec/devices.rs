//! Device nodes of a container and the rules of its cgroup.

use linux::cgroup::{DeviceKind, DeviceRule};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A device of the host as it shall appear inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostDevice {
    pub(crate) container_path: PathBuf,
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Any of `r`, `w`, `m`.
    pub(crate) permissions: String,
}

/// Nodes that every container has: null, zero, full, tty, random, urandom; and terminals (ptmx, pts).
const ORDINARY: &[(u32, Option<u32>)] = &[
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// Rules for a container. The last rule that matches decides; what none allows is refused.
pub(crate) fn device_rules(is_privileged: bool, devices: &[HostDevice]) -> Vec<DeviceRule> {
    if is_privileged {
        return vec![rule(DeviceKind::All, None, None, "rwm")];
    }
    // Making a node is harmless where it cannot be opened.
    let mut rules = vec![
        rule(DeviceKind::Character, None, None, "m"),
        rule(DeviceKind::Block, None, None, "m"),
    ];
    rules.extend(
        ORDINARY
            .iter()
            .map(|(major, minor)| rule(DeviceKind::Character, Some(*major), *minor, "rwm")),
    );
    rules.extend(devices.iter().map(|device| {
        rule(
            device.kind,
            Some(device.major),
            Some(device.minor),
            &device.permissions,
        )
    }));
    rules
}

fn rule(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        read: access.contains('r'),
        write: access.contains('w'),
        make_node: access.contains('m'),
    }
}

/// OCI's form of the nodes to make.
pub(super) fn device_nodes(devices: &[HostDevice]) -> Vec<Value> {
    let node = |device: &HostDevice| {
        json!({
            "path": device.container_path,
            "type": if device.kind == DeviceKind::Block { "b" } else { "c" },
            "major": device.major,
            "minor": device.minor,
            "fileMode": device.mode,
            "uid": device.uid,
            "gid": device.gid,
        })
    };
    devices.iter().map(node).collect()
}

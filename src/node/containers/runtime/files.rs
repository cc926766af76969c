//! Files that a sandbox makes for its containers, and devices of the host.

use crate::spec::HostDevice;
use cri::{Device, DnsConfig};
use linux::cgroup::DeviceKind;
use std::fmt::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Directories below which devices may lie.
const DEVICE_DEPTH_MAX: usize = 4;

/// The text of `/etc/resolv.conf`.
pub(super) fn resolv_conf(dns: &DnsConfig) -> String {
    // Writing to a text cannot fail.
    let mut text = String::new();
    if !dns.searches.is_empty() {
        let _ = writeln!(text, "search {}", dns.searches.join(" "));
    }
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !dns.options.is_empty() {
        let _ = writeln!(text, "options {}", dns.options.join(" "));
    }
    text
}

/// The devices a pod asked for; a directory stands for all devices in it.
pub(super) fn named_devices(wanted: &[Device]) -> Result<Vec<HostDevice>, String> {
    let mut out = Vec::new();
    for device in wanted {
        let before = out.len();
        collect(
            &device.host_path,
            &device.container_path,
            &device.permissions,
            0,
            &mut out,
        )
        .map_err(|error| format!("device {}: {error}", device.host_path.display()))?;
        if out.len() == before {
            return Err(format!(
                "{} is not a device node",
                device.host_path.display()
            ));
        }
    }
    Ok(out)
}

/// Every device of the host, for a privileged container. Terminals and what is mounted in /dev have their own.
pub(super) fn all_devices() -> Vec<HostDevice> {
    const NOT_SHARED: &[&str] = &[
        "pts",
        "shm",
        "fd",
        "mqueue",
        ".lxc",
        ".lxd-mounts",
        ".udev",
        "console",
        "ptmx",
        "tty",
    ];
    let mut out = Vec::new();
    let Ok(entries) = std::fs::read_dir("/dev") else {
        return out;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_shared = !NOT_SHARED.iter().any(|name| entry.file_name() == *name);
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_shared && !is_link {
            // A device that disappears meanwhile is not there.
            drop(collect(&path, &path, "rwm", 1, &mut out));
        }
    }
    const DEFAULTS: &[&str] = &["null", "zero", "full", "random", "urandom"];
    out.retain(|device| {
        !DEFAULTS
            .iter()
            .any(|name| device.container_path == Path::new("/dev").join(name))
    });
    out
}

fn collect(
    host: &Path,
    inside: &Path,
    permissions: &str,
    depth: usize,
    out: &mut Vec<HostDevice>,
) -> std::io::Result<()> {
    let metadata = host.metadata()?;
    let kind = metadata.file_type();
    if kind.is_dir() && depth < DEVICE_DEPTH_MAX {
        for entry in std::fs::read_dir(host)?.flatten() {
            if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
                collect(
                    &entry.path(),
                    &inside.join(entry.file_name()),
                    permissions,
                    depth + 1,
                    out,
                )?;
            }
        }
        return Ok(());
    }
    if kind.is_char_device() || kind.is_block_device() {
        out.push(HostDevice {
            container_path: inside.to_owned(),
            kind: if kind.is_block_device() {
                DeviceKind::Block
            } else {
                DeviceKind::Character
            },
            major: rustix::fs::major(metadata.rdev()),
            minor: rustix::fs::minor(metadata.rdev()),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            permissions: permissions.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_search_then_servers_then_options() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let dns = DnsConfig {
            servers: texts(&["10.43.0.10"]),
            searches: texts(&["a.svc", "svc"]),
            options: texts(&["ndots:5"]),
        };
        assert_eq!(
            resolv_conf(&dns),
            "search a.svc svc\nnameserver 10.43.0.10\noptions ndots:5\n"
        );
    }
}

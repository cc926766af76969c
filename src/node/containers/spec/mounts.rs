//! The mounts of a container in the order they are made.

use cri::{ContainerConfig, Mount, MountPropagation, MountReadOnly, Privilege};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files of the sandbox that its containers share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxFiles {
    /// `None` on the host's uts namespace.
    pub(crate) hostname: Option<PathBuf>,
    pub(crate) resolv_conf: PathBuf,
    pub(crate) shm: PathBuf,
}

/// A mount in OCI's form, kept apart from its destination for ordering.
struct Planned {
    destination: PathBuf,
    mount: Value,
}

/// Default mounts, the sandbox's files, then the pod's mounts; of two at one place the later wins, and what lies
/// deeper is mounted later.
pub(crate) fn mounts(
    config: &ContainerConfig,
    pod_mounts: &[Mount],
    files: &SandboxFiles,
    cgroup_directories: &BTreeMap<String, PathBuf>,
) -> Vec<Value> {
    let is_privileged = config.security.privilege == Privilege::Privileged;
    let mut planned = kernel_mounts(is_privileged, cgroup_directories);
    planned.extend(
        files
            .hostname
            .iter()
            .map(|path| file("/etc/hostname", path, is_privileged)),
    );
    planned.push(file("/etc/resolv.conf", &files.resolv_conf, is_privileged));
    planned.push(bind(
        Path::new("/dev/shm"),
        &files.shm,
        &["rbind", "rprivate", "nosuid", "noexec", "nodev"],
    ));
    for mount in pod_mounts {
        planned.retain(|other| other.destination != mount.container_path);
        planned.push(pod_mount(mount));
    }
    planned.sort_by_key(|mount| mount.destination.components().count());
    planned.into_iter().map(|planned| planned.mount).collect()
}

fn kernel_mounts(
    is_privileged: bool,
    cgroup_directories: &BTreeMap<String, PathBuf>,
) -> Vec<Planned> {
    let access = if is_privileged { "rw" } else { "ro" };
    let mut out = vec![
        filesystem("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        filesystem(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        filesystem(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        filesystem("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        filesystem("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]),
    ];
    out.extend(cgroup_mounts(access, cgroup_directories));
    out
}

/// On v2 the container's cgroup namespace makes its group the root. On v1 its group in each hierarchy is bound;
/// libcontainer's own way looks for the container's pid in the host's /proc and fails with a shared pid namespace.
fn cgroup_mounts(access: &str, directories: &BTreeMap<String, PathBuf>) -> Vec<Planned> {
    let root = "/sys/fs/cgroup";
    if directories.is_empty() {
        return vec![filesystem(
            root,
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        )];
    }
    let mut out = vec![filesystem(
        root,
        "tmpfs",
        &["nosuid", "noexec", "nodev", "mode=755", "size=64k"],
    )];
    for (name, directory) in directories {
        let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev", access];
        out.push(bind(&Path::new(root).join(name), directory, &options));
    }
    out
}

fn filesystem(destination: &str, kind: &str, options: &[&str]) -> Planned {
    Planned {
        destination: PathBuf::from(destination),
        mount: json!({"destination": destination, "type": kind, "source": kind, "options": options}),
    }
}

/// A file of the sandbox. Containers of one pod share it, so only a privileged one may change it.
fn file(destination: &str, source: &Path, is_privileged: bool) -> Planned {
    let access = if is_privileged { "rw" } else { "ro" };
    bind(
        Path::new(destination),
        source,
        &["rbind", "rprivate", "nosuid", "nodev", access],
    )
}

fn bind(destination: &Path, source: &Path, options: &[&str]) -> Planned {
    Planned {
        destination: destination.to_owned(),
        mount: json!({"destination": destination, "type": "bind", "source": source, "options": options}),
    }
}

fn pod_mount(mount: &Mount) -> Planned {
    let propagation = match mount.propagation {
        MountPropagation::Private => "rprivate",
        MountPropagation::HostToContainer => "rslave",
        MountPropagation::Bidirectional => "rshared",
    };
    let access = match mount.read_only {
        MountReadOnly::No => "rw",
        MountReadOnly::Yes => "ro",
        MountReadOnly::Recursive => "rro",
    };
    bind(
        &mount.container_path,
        &mount.host_path,
        &["rbind", propagation, access],
    )
}

/// How the root mount must propagate for the mounts below it to be able to.
pub(super) fn root_propagation(mounts: &[Mount]) -> Option<&'static str> {
    let has = |wanted| mounts.iter().any(|mount| mount.propagation == wanted);
    if has(MountPropagation::Bidirectional) {
        Some("shared")
    } else if has(MountPropagation::HostToContainer) {
        Some("slave")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_mount_replaces_a_default_one_and_deeper_mounts_come_later() {
        let files = SandboxFiles {
            hostname: None,
            resolv_conf: "/r".into(),
            shm: "/s".into(),
        };
        let mount = |path: &str| Mount {
            host_path: "/h".into(),
            container_path: path.into(),
            ..Default::default()
        };
        let pod = [mount("/data/deep"), mount("/dev/shm"), mount("/data")];
        let planned = mounts(&ContainerConfig::default(), &pod, &files, &BTreeMap::new());
        let at = |path: &str| {
            planned
                .iter()
                .position(|one| one["destination"] == path)
                .unwrap()
        };
        assert_eq!(planned[at("/dev/shm")]["source"], "/h");
        assert_eq!(
            planned
                .iter()
                .filter(|one| one["destination"] == "/dev/shm")
                .count(),
            1
        );
        assert!(at("/data") < at("/data/deep"));
        assert!(at("/dev") < at("/dev/shm"));
    }
}

//! One group: made, limited, filled, frozen, killed, removed.

use super::limits::{CgroupLimits, writes};
use super::{CgroupVersion, Cgroups, DeviceRule, Hierarchy, devices, join};
use crate::error::{Doing, Error, Result};
use crate::pid_fd::PidFd;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MEMORY: &str = "memory";

/// How long killed processes may take to end before killing counts as failed.
const KILL_WAIT_MAX: Duration = Duration::from_secs(10);
/// Rounds of killing: a process may fork while its group is read.
const KILL_ROUNDS_MAX: usize = 16;
/// A directory stays busy for a moment after its last process ended; then it can be removed.
const REMOVE_ATTEMPTS_MAX: usize = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// A group at an absolute path of the hierarchy; it need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    cgroups: Cgroups,
    path: String,
}

impl Cgroup {
    pub(super) fn new(cgroups: Cgroups, path: &str) -> Cgroup {
        Cgroup {
            cgroups,
            path: format!("/{}", path.trim_matches('/')),
        }
    }

    /// The absolute path in the hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A group below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Cgroup {
        Cgroup::new(self.cgroups.clone(), &format!("{}/{name}", self.path))
    }

    pub(super) fn version(&self) -> CgroupVersion {
        self.cgroups.version()
    }

    /// Makes the group and those above it, and lets them use every controller. An existing group is fine.
    pub fn create(&self) -> Result<()> {
        match &self.cgroups.hierarchy {
            Hierarchy::V1(controllers) => {
                let mounts: BTreeSet<&PathBuf> = controllers.values().collect();
                for mount in mounts {
                    let is_cpuset = controllers.get("cpuset") == Some(mount);
                    self.create_v1(mount, is_cpuset)?;
                }
                Ok(())
            }
            Hierarchy::V2(mount) => self.create_v2(mount),
        }
    }

    fn create_v1(&self, mount: &Path, is_cpuset: bool) -> Result<()> {
        let mut directory = mount.to_owned();
        for name in self.path.split('/').filter(|name| !name.is_empty()) {
            let parent = directory.clone();
            directory.push(name);
            create_directory(&directory)?;
            if is_cpuset {
                inherit_cpuset(&parent, &directory)?;
            }
        }
        Ok(())
    }

    fn create_v2(&self, mount: &Path) -> Result<()> {
        let mut directory = mount.to_owned();
        for name in self.path.split('/').filter(|name| !name.is_empty()) {
            enable_controllers(&directory)?;
            directory.push(name);
            create_directory(&directory)?;
        }
        Ok(())
    }

    pub fn exists(&self) -> bool {
        self.cgroups
            .directories(&self.path)
            .iter()
            .any(|directory| directory.is_dir())
    }

    /// Moves a process (and the children it will have) into the group, in every hierarchy.
    pub fn add_process(&self, pid: i32) -> Result<()> {
        for directory in self.cgroups.directories(&self.path) {
            write(&directory.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Writes limits; the first that the kernel refuses ends it with an error that names the file.
    ///
    /// A kernel that counts no memory, as that of a Raspberry Pi until it is told to, enforces no
    /// limit on it: what runs is better than what does not.
    pub fn write_limits(&self, limits: &CgroupLimits) -> Result<()> {
        let counts_memory = self
            .cgroups
            .controllers()?
            .iter()
            .any(|name| name == MEMORY);
        let current = self.read("memory", "memory.limit_in_bytes");
        let current = current
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(i64::MAX);
        for one in writes(self.version(), limits, current) {
            if one.controller == MEMORY && !counts_memory {
                tracing::warn!(
                    one.value,
                    group = self.path,
                    "a limit on memory is not enforced: the kernel has no memory controller"
                );
                continue;
            }
            let Some(directory) = self.cgroups.directory(one.controller, &self.path) else {
                if one.optional {
                    continue;
                }
                let message = format!("the kernel has no {} controller", one.controller);
                return Err(Error::other(
                    format!("set {} of {}", one.file, self.path),
                    message,
                ));
            };
            let path = directory.join(&one.file);
            if one.optional && !path.exists() {
                continue;
            }
            write(&path, &one.value)?;
        }
        Ok(())
    }

    /// Lets the group's processes use only the devices that a rule allows; the last rule that matches decides.
    pub fn restrict_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        match self.version() {
            CgroupVersion::V2 => {
                let directory = self.cgroups.directory("devices", &self.path);
                let directory = directory.expect("v2 has one directory for every controller");
                devices::attach_program(&directory, rules)
            }
            CgroupVersion::V1 => {
                let Some(directory) = self.cgroups.directory("devices", &self.path) else {
                    return Err(Error::other(
                        "restrict devices",
                        "the kernel has no devices controller",
                    ));
                };
                write(&directory.join("devices.deny"), "a")?;
                for rule in rules {
                    let file = if rule.allow {
                        "devices.allow"
                    } else {
                        "devices.deny"
                    };
                    write(&directory.join(file), &rule.to_string())?;
                }
                Ok(())
            }
        }
    }

    /// Processes of the group and of those below it.
    pub fn processes(&self) -> Vec<i32> {
        let mut all = BTreeSet::new();
        for directory in self.cgroups.directories(&self.path) {
            collect_processes(&directory, &mut all);
        }
        all.into_iter().collect()
    }

    /// Kills every process of the group and below, also those that fork meanwhile, and waits until they have ended.
    pub fn kill_all(&self) -> Result<()> {
        for _ in 0..KILL_ROUNDS_MAX {
            let processes: Vec<PidFd> = self
                .processes()
                .into_iter()
                .filter_map(|pid| PidFd::open(pid).ok().flatten())
                .collect();
            if processes.is_empty() {
                return Ok(());
            }
            let frozen = self.freeze().is_ok();
            if !self.kill_by_file() {
                for process in &processes {
                    process.signal(libc::SIGKILL)?;
                }
            }
            // A frozen v1 group ends nobody before it thaws.
            if frozen {
                self.thaw()?;
            }
            for process in &processes {
                if !process.wait(KILL_WAIT_MAX)? {
                    return Err(Error::other(
                        format!("kill group {}", self.path),
                        "a process does not end",
                    ));
                }
            }
        }
        Err(Error::other(
            format!("kill group {}", self.path),
            "it forks faster than it is killed",
        ))
    }

    /// Linux 5.14 kills a whole v2 subtree at once.
    fn kill_by_file(&self) -> bool {
        let Hierarchy::V2(mount) = &self.cgroups.hierarchy else {
            return false;
        };
        std::fs::write(join(mount, &self.path).join("cgroup.kill"), "1").is_ok()
    }

    /// Stops all processes of the group where they are.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen("FROZEN", "1")
    }

    pub fn thaw(&self) -> Result<()> {
        self.set_frozen("THAWED", "0")
    }

    fn set_frozen(&self, v1: &str, v2: &str) -> Result<()> {
        let Some(directory) = self.cgroups.directory("freezer", &self.path) else {
            return Err(Error::other("freeze a group", "the kernel has no freezer"));
        };
        match self.version() {
            CgroupVersion::V1 => write(&directory.join("freezer.state"), v1),
            CgroupVersion::V2 => write(&directory.join("cgroup.freeze"), v2),
        }
    }

    /// Removes the group and those below it. They must hold no process; a group that is not there is fine.
    pub fn remove(&self) -> Result<()> {
        for directory in self.cgroups.directories(&self.path) {
            remove_tree(&directory)?;
        }
        Ok(())
    }

    /// Names of the groups directly below.
    pub fn children(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for directory in self.cgroups.directories(&self.path) {
            names.extend(subdirectories(&directory).iter().filter_map(|path| {
                path.file_name()
                    .map(|name| name.to_string_lossy().into_owned())
            }));
        }
        names.into_iter().collect()
    }

    /// A file of the group; `None` when it cannot be read.
    pub(super) fn read(&self, controller: &str, file: &str) -> Option<String> {
        let directory = self.cgroups.directory(controller, &self.path)?;
        std::fs::read_to_string(directory.join(file)).ok()
    }
}

fn create_directory(directory: &Path) -> Result<()> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).doing(|| format!("make group {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// A new v1 cpuset has no CPU and no memory node, and takes no process before it has.
fn inherit_cpuset(parent: &Path, child: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = std::fs::read_to_string(child.join(file)).unwrap_or_default();
        if own.trim().is_empty() {
            let inherited = std::fs::read_to_string(parent.join(file)).unwrap_or_default();
            if !inherited.trim().is_empty() {
                write(&child.join(file), inherited.trim())?;
            }
        }
    }
    Ok(())
}

/// One by one: a controller that cannot be switched on must not keep the others off.
fn enable_controllers(directory: &Path) -> Result<()> {
    let path = directory.join("cgroup.controllers");
    let available = std::fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
    let path = directory.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
    let enabled: BTreeSet<&str> = enabled.split_whitespace().collect();
    for controller in available
        .split_whitespace()
        .filter(|name| !enabled.contains(name))
    {
        match std::fs::write(&path, format!("+{controller}")) {
            // Above a delegated subtree nothing is ours to switch; a limit that needs it fails by itself.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            result => result.doing(|| format!("switch on {controller} in {}", path.display()))?,
        }
    }
    Ok(())
}

fn collect_processes(directory: &Path, all: &mut BTreeSet<i32>) {
    let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    all.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in subdirectories(directory) {
        collect_processes(&child, all);
    }
}

fn remove_tree(directory: &Path) -> Result<()> {
    for child in subdirectories(directory) {
        remove_tree(&child)?;
    }
    let mut attempts = 0;
    loop {
        match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY) && attempts < REMOVE_ATTEMPTS_MAX =>
            {
                attempts += 1;
                pause(REMOVE_PAUSE);
            }
            Err(error) => {
                return Err(error).doing(|| format!("remove group {}", directory.display()));
            }
        }
    }
}

/// No event tells that a group is free again.
fn pause(span: Duration) {
    let span = rustix::thread::Timespec {
        tv_sec: 0,
        tv_nsec: span.subsec_nanos().into(),
    };
    // A signal may cut it short; the caller counts its attempts anyway.
    let _ = rustix::thread::nanosleep(&span);
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let directories = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

fn write(path: &Path, value: &str) -> Result<()> {
    std::fs::write(path, value).doing(|| format!("write {value:?} to {}", path.display()))
}

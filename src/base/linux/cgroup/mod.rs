//! Control groups of both versions behind one face: a group is a path below a root, whatever the kernel offers.
//!
//! On v1 a group is one directory in every mounted hierarchy, on v2 one directory. Groups with processes are
//! leaves only (v2's rule, kept on v1 too).

mod devices;
mod group;
mod limits;
mod stats;

pub use devices::{DeviceKind, DeviceRule};
pub use group::Cgroup;
pub use limits::{CgroupLimits, HugePageLimit};
pub use stats::{CgroupStats, MemoryStats};

use crate::error::{Doing, Error, Result};
use crate::mounts::{self, MountEntry};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The control groups of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    hierarchy: Hierarchy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hierarchy {
    /// Controller (or `name=systemd`) → where it is mounted. Controllers mounted together share a path.
    V1(BTreeMap<String, PathBuf>),
    V2(PathBuf),
}

/// Which interface the controllers are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    V1,
    V2,
}

impl Cgroups {
    /// Finds out what is mounted. Controllers on v1 win over a v2 tree without controllers (hybrid machines).
    pub fn detect() -> Result<Cgroups> {
        Cgroups::from_mounts(&mounts::table()?)
    }

    fn from_mounts(table: &[MountEntry]) -> Result<Cgroups> {
        let mut v1 = BTreeMap::new();
        for entry in table.iter().filter(|entry| entry.filesystem == "cgroup") {
            for name in entry
                .super_options
                .split(',')
                .filter(|name| is_controller(name))
            {
                v1.entry(name.to_owned())
                    .or_insert_with(|| entry.mount_point.clone());
            }
        }
        if v1.contains_key("memory") || v1.contains_key("cpu") {
            return Ok(Cgroups {
                hierarchy: Hierarchy::V1(v1),
            });
        }
        let v2 = table.iter().find(|entry| entry.filesystem == "cgroup2");
        match v2 {
            Some(entry) => Ok(Cgroups {
                hierarchy: Hierarchy::V2(entry.mount_point.clone()),
            }),
            None => Err(Error::other(
                "look for control groups",
                "no cgroup filesystem is mounted",
            )),
        }
    }

    pub fn version(&self) -> CgroupVersion {
        match self.hierarchy {
            Hierarchy::V1(_) => CgroupVersion::V1,
            Hierarchy::V2(_) => CgroupVersion::V2,
        }
    }

    /// The group at an absolute path of the hierarchy, for example `/combo-1a2b/pod3`. Makes nothing.
    pub fn group(&self, path: &str) -> Cgroup {
        Cgroup::new(self.clone(), path)
    }

    /// The path of the group this process is in (v2), or of its `name=systemd` or memory group (v1).
    pub fn own_path(&self) -> Result<String> {
        let text = std::fs::read_to_string("/proc/self/cgroup")
            .doing(|| "read /proc/self/cgroup".to_owned())?;
        let wanted = match self.hierarchy {
            Hierarchy::V1(ref controllers) if controllers.contains_key("name=systemd") => {
                "name=systemd"
            }
            Hierarchy::V1(_) => "memory",
            Hierarchy::V2(_) => "",
        };
        let found = text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            controllers
                .split(',')
                .any(|name| name == wanted)
                .then(|| path.to_owned())
        });
        Ok(found.unwrap_or_else(|| "/".to_owned()))
    }

    /// The group below which this process may make groups, when whoever started it delegated one and put the process
    /// into its child `leaf` (systemd's `DelegateSubgroup=`). `None` on v1 and wherever else the process sits.
    pub fn delegated(&self, leaf: &str) -> Result<Option<String>> {
        if self.version() == CgroupVersion::V1 {
            return Ok(None);
        }
        let own = self.own_path()?;
        let parent = own.strip_suffix(&format!("/{leaf}"));
        Ok(parent
            .filter(|parent| !parent.is_empty())
            .map(ToOwned::to_owned))
    }

    /// The groups that have a child of this name, at most `depth` levels down; `/` is the root. Empty on v1.
    pub fn parents_of(&self, name: &str, depth: usize) -> Vec<String> {
        let mut found = Vec::new();
        if let Hierarchy::V2(mount) = &self.hierarchy {
            parents_of(mount, mount, name, depth, &mut found);
        }
        found
    }

    /// Every directory that a group has.
    fn directories(&self, path: &str) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = match &self.hierarchy {
            Hierarchy::V1(controllers) => controllers
                .values()
                .map(|mount| join(mount, path))
                .collect(),
            Hierarchy::V2(mount) => vec![join(mount, path)],
        };
        all.sort();
        all.dedup();
        all
    }

    /// The directory of a group for one controller; `None` when the kernel does not have it.
    fn directory(&self, controller: &str, path: &str) -> Option<PathBuf> {
        match &self.hierarchy {
            Hierarchy::V1(controllers) => {
                controllers.get(controller).map(|mount| join(mount, path))
            }
            Hierarchy::V2(mount) => Some(join(mount, path)),
        }
    }

    /// The directories of a group under the names that programs look for in /sys/fs/cgroup: controllers, and
    /// mounts of several controllers. Empty on v2, where a group is one directory.
    pub fn named_directories(&self, group: &Cgroup) -> BTreeMap<String, PathBuf> {
        let Hierarchy::V1(controllers) = &self.hierarchy else {
            return BTreeMap::new();
        };
        let mut out = BTreeMap::new();
        for (controller, mount) in controllers {
            let directory = join(mount, group.path());
            let name = controller.strip_prefix("name=").unwrap_or(controller);
            out.insert(name.to_owned(), directory.clone());
            if let Some(name) = mount.file_name() {
                out.insert(name.to_string_lossy().into_owned(), directory);
            }
        }
        out
    }

    /// Names of the controllers that groups can use, for example `cpu`, `memory`, `pids`.
    pub fn controllers(&self) -> Result<Vec<String>> {
        match &self.hierarchy {
            Hierarchy::V1(controllers) => Ok(controllers.keys().cloned().collect()),
            Hierarchy::V2(mount) => {
                let path = mount.join("cgroup.controllers");
                let text =
                    std::fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
                Ok(text.split_whitespace().map(str::to_owned).collect())
            }
        }
    }
}

/// Super options of a v1 hierarchy name its controllers among flags of the mount.
fn is_controller(name: &str) -> bool {
    const FLAGS: &[&str] = &[
        "rw",
        "ro",
        "xattr",
        "noprefix",
        "clone_children",
        "cpuset_v2_mode",
        "none",
    ];
    !FLAGS.contains(&name) && !name.starts_with("release_agent=")
}

fn join(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

fn parents_of(mount: &Path, folder: &Path, name: &str, depth: usize, found: &mut Vec<String>) {
    if folder.join(name).is_dir() {
        let path = folder.strip_prefix(mount).unwrap_or(folder);
        found.push(format!("/{}", path.display()));
    }
    if depth == 0 {
        return;
    }
    // A group that goes away meanwhile has nothing of this name.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            parents_of(mount, &entry.path(), name, depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(filesystem: &str, mount_point: &str, super_options: &str) -> MountEntry {
        MountEntry {
            root: "/".into(),
            mount_point: mount_point.into(),
            filesystem: filesystem.to_owned(),
            super_options: super_options.to_owned(),
            shared: false,
        }
    }

    #[test]
    fn a_hybrid_machine_counts_as_v1_and_controllers_mounted_together_share_a_path() {
        let table = [
            entry("cgroup2", "/sys/fs/cgroup/unified", "rw"),
            entry("cgroup", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct"),
            entry("cgroup", "/sys/fs/cgroup/memory", "rw,memory"),
        ];
        let found = Cgroups::from_mounts(&table).unwrap();
        assert_eq!(found.version(), CgroupVersion::V1);
        assert_eq!(found.directories("/a").len(), 2);
        let v2 = Cgroups::from_mounts(&table[..1]).unwrap();
        assert_eq!(v2.version(), CgroupVersion::V2);
    }

    #[test]
    fn without_the_memory_controller_the_other_limits_hold() {
        let mount = tempfile::tempdir().unwrap();
        std::fs::create_dir(mount.path().join("a")).unwrap();
        let limits = CgroupLimits {
            memory: Some(1 << 20),
            pids: Some(7),
            ..CgroupLimits::default()
        };
        let cgroups = Cgroups {
            hierarchy: Hierarchy::V2(mount.path().to_owned()),
        };
        for (controllers, expected) in [("cpu pids", false), ("cpu memory pids", true)] {
            std::fs::write(mount.path().join("cgroup.controllers"), controllers).unwrap();
            cgroups.group("/a").write_limits(&limits).unwrap();
            let written = |file: &str| mount.path().join("a").join(file).exists();
            assert_eq!(
                (written("memory.max"), written("pids.max")),
                (expected, true)
            );
        }
    }

    #[test]
    fn a_group_is_found_by_name_down_to_a_depth() {
        let mount = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(mount.path().join("system.slice/a.service/pods")).unwrap();
        let table = [entry("cgroup2", mount.path().to_str().unwrap(), "rw")];
        let groups = Cgroups::from_mounts(&table).unwrap();
        assert_eq!(groups.parents_of("pods", 2), ["/system.slice/a.service"]);
        assert_eq!(groups.parents_of("system.slice", 0), ["/"]);
        assert!(groups.parents_of("pods", 1).is_empty());
    }
}

//! What a host has of one server: by this a test proves that nothing stays behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bootstrap::DataDir;
use rustix::process::{Pid, Signal, kill_process};

const CGROUPS: &str = "/sys/fs/cgroup";
/// Version 1 has a folder per controller above ours.
const CGROUP_DEPTH_MAX: usize = 3;

/// Everything that carries the name of an instance, its data folder or its addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    pub(crate) links: Vec<String>,
    pub(crate) routes: Vec<String>,
    pub(crate) tables: Vec<String>,
    pub(crate) cgroups: Vec<PathBuf>,
    pub(crate) mounts: Vec<String>,
    pub(crate) processes: Vec<(i32, String)>,
}

impl Traces {
    pub(crate) fn of(data_dir: &Path, pod_prefix: Option<&str>) -> Self {
        let instance = DataDir::at(data_dir).instance();
        let of_addresses =
            |text: &str| pod_prefix.is_some_and(|prefix| text.contains(&format!(" {prefix}")));
        let folder = data_dir.to_str().expect("UTF-8");
        Self {
            links: matching(&["ip", "-d", "-o", "link"], |line| line.contains(&instance))
                .chain(matching(&["ip", "-o", "address"], of_addresses))
                .collect(),
            routes: matching(&["ip", "-o", "route", "show", "table", "all"], |line| {
                of_addresses(&format!(" {line}"))
            })
            .collect(),
            tables: matching(&["nft", "list", "tables"], |line| line.contains(&instance)).collect(),
            cgroups: groups(Path::new(CGROUPS), &instance, CGROUP_DEPTH_MAX),
            mounts: mounts(folder),
            processes: processes(folder, &instance),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Kills the servers and agents of the data folder, not its pods.
    pub(crate) fn kill_servers(&self) {
        for (pid, command) in &self.processes {
            if [" server ", " agent "]
                .iter()
                .any(|word| command.contains(word))
                && let Some(pid) = Pid::from_raw(*pid)
            {
                let _gone_already = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn matching(command: &[&str], is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter(|line| is_wanted(line))
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

fn groups(folder: &Path, name: &str, depth: usize) -> Vec<PathBuf> {
    let folders = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .flat_map(|entry| match entry.file_name() == name {
            true => vec![entry.path()],
            false if depth > 1 => groups(&entry.path(), name, depth - 1),
            false => Vec::new(),
        })
        .collect()
}

fn mounts(folder: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let point = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
    table
        .lines()
        .map(point)
        .filter(|point| point.starts_with(&format!("{folder}/")))
        .collect()
}

fn processes(folder: &str, instance: &str) -> Vec<(i32, String)> {
    let pids = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).expect("a pid");
    pids.filter(|pid| *pid != own)
        .filter_map(|pid| {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', " ");
            let (command, groups) = (text(read("cmdline")), text(read("cgroup")));
            let is_ours = groups.contains(instance)
                || command.contains(&format!("{folder} "))
                || command.contains(&format!("{folder}/"));
            is_ours.then_some((pid, command))
        })
        .collect()
}

/// The process ids on the host of the containers of a pod, found by its uid in their control groups.
pub(crate) fn pids_of_pod(uid: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = processes("\0", uid)
        .into_iter()
        .map(|(pid, _command)| pid)
        .collect();
    pids.sort_unstable();
    pids
}

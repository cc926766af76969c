//! What a machine has of what Combo needs. Parts of the kernel are tried where nothing on the host
//! changes by it: in a network namespace that nobody else is in.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use env::SystemClock;
use linux::NetworkNamespace;
use linux::cgroup::{CgroupVersion, Cgroups};
use linux::netlink::nf_tables::{Batch, Hook, HookKind, HookPoint, NfTablesSocket, Ownership};
use linux::netlink::route::{NewLink, NewLinkKind, RouteSocket};

use crate::kernel_config;
use crate::ports::{self, Listener};

const TRIAL: &str = "combotrial";
const TRIAL_MTU: u32 = 1500;

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Question {
    pub data_dir: PathBuf,
    /// The TCP ports that will be listened on.
    pub ports: Vec<u16>,
}

/// A part of the kernel that pods or Services stand on, and why it does not work.
pub(crate) type Trial = Result<(), String>;

#[derive(Clone, Debug)]
pub struct HostFacts {
    pub(crate) is_root: bool,
    /// As `uname -m` says.
    pub(crate) machine: String,
    pub(crate) page_bytes: usize,
    pub(crate) kernel: (u32, u32, u32),
    pub(crate) cgroups: Result<(CgroupVersion, Vec<String>), String>,
    pub(crate) namespaces_missing: Vec<&'static str>,
    pub(crate) has_seccomp: bool,
    pub(crate) has_overlay: bool,
    pub(crate) links: Trial,
    pub(crate) nftables: Trial,
    pub(crate) vxlan: Option<bool>,
    pub(crate) wireguard: Option<bool>,
    pub(crate) memory_bytes: u64,
    pub(crate) disk: Option<DiskFacts>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) unix_seconds: u64,
    pub(crate) has_firewalld: bool,
    pub(crate) is_raspberry_pi: bool,
}

/// The filesystem that the data folder lies on, or will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskFacts {
    pub(crate) folder: PathBuf,
    pub(crate) filesystem: String,
    pub(crate) is_read_only: bool,
    pub(crate) is_no_exec: bool,
    pub(crate) available_bytes: u64,
    pub(crate) inodes_free: u64,
}

impl HostFacts {
    /// Looks, and changes nothing.
    pub fn read(question: &Question) -> Self {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy().into_owned();
        let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let (links, nftables) = network_trials();
        Self {
            is_root: rustix::process::geteuid().is_root(),
            machine: name.machine().to_string_lossy().into_owned(),
            page_bytes: rustix::param::page_size(),
            kernel: linux::system::kernel_version(),
            cgroups: cgroups(),
            namespaces_missing: ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
                .into_iter()
                .filter(|kind| !Path::new("/proc/self/ns").join(kind).exists())
                .collect(),
            has_seccomp: status.lines().any(|line| line.starts_with("Seccomp:")),
            has_overlay: filesystems.lines().any(|line| line.ends_with("\toverlay"))
                || kernel_config::has(&release, "CONFIG_OVERLAY_FS", "overlay").unwrap_or(false),
            links,
            nftables,
            vxlan: kernel_config::has(&release, "CONFIG_VXLAN", "vxlan"),
            wireguard: kernel_config::has(&release, "CONFIG_WIREGUARD", "wireguard"),
            memory_bytes: linux::system::memory_info().map_or(0, |memory| memory.total_bytes),
            disk: disk(&question.data_dir),
            listeners: ports::listeners(&question.ports),
            unix_seconds: u64::try_from(SystemClock::shared().now().unix_seconds())
                .unwrap_or_default(),
            has_firewalld: Path::new("/run/firewalld").exists(),
            is_raspberry_pi: fs::read_to_string("/proc/device-tree/model")
                .is_ok_and(|model| model.starts_with("Raspberry Pi")),
        }
    }
}

fn cgroups() -> Result<(CgroupVersion, Vec<String>), String> {
    let found = Cgroups::detect().map_err(|error| error.to_string())?;
    let controllers = found.controllers().map_err(|error| error.to_string())?;
    Ok((found.version(), controllers))
}

/// Pairs of links, and a table that translates addresses.
fn network_trials() -> (Trial, Trial) {
    let made = NetworkNamespace::create().and_then(|first| {
        let second = NetworkNamespace::create()?;
        first.run(|| (try_links(&second), try_nftables()))
    });
    made.unwrap_or_else(|error| {
        let why = format!("no network namespace can be made: {error}");
        (Err(why.clone()), Err(why))
    })
}

fn try_links(other: &NetworkNamespace) -> Trial {
    let link = NewLink {
        name: TRIAL.to_owned(),
        kind: NewLinkKind::Veth {
            peer_name: TRIAL.to_owned(),
            peer_namespace: other.as_raw_fd(),
        },
        mac: None,
        mtu: TRIAL_MTU,
        group: 0,
    };
    let bridge = NewLink {
        name: format!("{TRIAL}b"),
        kind: NewLinkKind::Bridge,
        ..link.clone()
    };
    let mut socket = RouteSocket::open().map_err(|error| error.to_string())?;
    socket
        .add_link(&link)
        .map_err(|error| format!("a veth pair: {error}"))?;
    socket
        .add_link(&bridge)
        .map_err(|error| format!("a bridge: {error}"))
}

fn try_nftables() -> Trial {
    let mut batch = Batch::new(TRIAL);
    batch.add_table(Ownership::Shared);
    let hook = Hook {
        kind: HookKind::Nat,
        point: HookPoint::Prerouting,
        priority: -100,
    };
    batch.add_chain("nat", Some(hook));
    NfTablesSocket::open()
        .and_then(|mut socket| socket.commit(batch))
        .map_err(|error| error.to_string())
}

fn disk(data_dir: &Path) -> Option<DiskFacts> {
    let data_dir = std::path::absolute(data_dir).ok()?;
    let folder = data_dir.ancestors().find(|folder| folder.is_dir())?;
    let folder = folder.canonicalize().ok()?;
    let info = linux::system::disk_info(&folder).ok()?;
    let flags = rustix::fs::statvfs(&folder).ok()?.f_flag;
    let table = linux::mounts::table().ok()?;
    // The last of those that lie deepest covers the others.
    let mount = table
        .iter()
        .filter(|entry| folder.starts_with(&entry.mount_point))
        .max_by_key(|entry| entry.mount_point.components().count())?;
    Some(DiskFacts {
        filesystem: mount.filesystem.clone(),
        is_read_only: flags.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        is_no_exec: flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC),
        available_bytes: info.available_bytes,
        inodes_free: if info.inodes == 0 {
            u64::MAX
        } else {
            info.inodes_free
        },
        folder,
    })
}

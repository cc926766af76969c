//! One process per pod, the same binary executed anew: parent of the pod's containers, keeper of its namespaces, pump
//! of its logs. It outlives the server, holds no secret, and never blocks but in `poll`.
//!
//! Everything that forks or changes a process happens in a worker ([`worker`]); the loop ([`event_loop`]) only moves
//! bytes, reaps children and answers calls.

mod container;
mod diagnostics;
mod event_loop;
mod logs;
pub(crate) mod protocol;
pub(crate) mod sandbox;
mod service;
mod worker;

use crate::layout::SandboxDir;
use event_loop::Shim;
use linux::process::{ProcessIdentity, fork_child};
use linux::{AtomicFile, Doing, Error};
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use sandbox::ShimConfiguration;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::ExitCode;

/// The first argument that makes the binary a shim.
pub const ARGUMENT: &str = "__shim";

/// What the launcher writes to its standard output when the shim is ready.
const READY: &str = "ready";

/// What a shim tells of itself, in `ready.json`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ready {
    pub(crate) version: u32,
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    pub(crate) boot_id: String,
    /// Kind of namespace (its name in /proc/PID/ns) → descriptor in the shim.
    pub(crate) namespaces: BTreeMap<String, i32>,
}

impl Ready {
    pub(crate) fn identity(&self) -> ProcessIdentity {
        ProcessIdentity {
            pid: self.pid,
            start_time: self.start_time,
            boot_id: self.boot_id.clone(),
        }
    }
}

/// Runs a shim; call it before anything else of the process starts. `args` are those behind [`ARGUMENT`].
///
/// The calling process is only a launcher: it ends when the shim is ready (success) or has said on standard error
/// why it cannot be.
pub fn main(args: &[String]) -> ExitCode {
    let [directory] = args else {
        eprintln!("a shim takes one argument: the directory of its sandbox");
        return ExitCode::FAILURE;
    };
    match launch(SandboxDir::at(PathBuf::from(directory))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn launch(dir: SandboxDir) -> linux::Result<()> {
    let (mut from_shim, mut to_launcher) = std::io::pipe().doing(|| "make a pipe".to_owned())?;
    fork_child(|| match prepare(dir) {
        Ok(mut shim) => {
            let told = to_launcher.write_all(READY.as_bytes());
            drop(to_launcher);
            if told.is_ok() { shim.run() } else { 1 }
        }
        Err(error) => {
            // Nobody is left to hear of a failed write.
            drop(to_launcher.write_all(error.to_string().as_bytes()));
            1
        }
    })?;
    let mut told = String::new();
    from_shim
        .read_to_string(&mut told)
        .doing(|| "hear from the shim".to_owned())?;
    if told == READY {
        Ok(())
    } else {
        Err(Error::other("start a shim", told))
    }
}

fn prepare(dir: SandboxDir) -> linux::Result<Shim> {
    let path = dir.shim_configuration();
    let text = std::fs::read(&path).doing(|| format!("read {}", path.display()))?;
    let configuration: ShimConfiguration = serde_json::from_slice(&text)
        .map_err(|error| Error::other(format!("read {}", path.display()), error.to_string()))?;
    become_daemon()?;
    let cgroups = linux::cgroup::Cgroups::detect()?;
    let group = cgroups.group(&configuration.cgroup_path);
    group.create()?;
    group.add_process(std::process::id().cast_signed())?;
    let namespaces = sandbox::create(&configuration)?;
    let listener = linux::unix_socket::listen(&dir.socket())?;
    write_ready(&dir, &namespaces)?;
    Shim::new(dir, cgroups, namespaces, listener)
}

fn become_daemon() -> linux::Result<()> {
    rustix::process::setsid().doing(|| "start a session".to_owned())?;
    std::env::set_current_dir("/").doing(|| "change to /".to_owned())?;
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    let null = null.doing(|| "open /dev/null".to_owned())?;
    nix::unistd::dup2_stdin(&null).doing(|| "close standard input".to_owned())?;
    nix::unistd::dup2_stdout(&null).doing(|| "close standard output".to_owned())?;
    nix::unistd::dup2_stderr(&null).doing(|| "close standard error".to_owned())?;
    // Nobody stops a shim but the runtime, over its socket. Workers take the signals back.
    SigSet::all()
        .thread_block()
        .doing(|| "block signals".to_owned())?;
    prctl::set_child_subreaper(true).doing(|| "become a subreaper".to_owned())?;
    prctl::set_name(c"combo-shim").doing(|| "set the name".to_owned())?;
    // The shim should be the last of the pod to die for lack of memory; a restricted host does not allow it.
    drop(std::fs::write("/proc/self/oom_score_adj", "-998"));
    Ok(())
}

fn write_ready(dir: &SandboxDir, namespaces: &sandbox::SandboxNamespaces) -> linux::Result<()> {
    let identity = ProcessIdentity::of(std::process::id().cast_signed())?;
    let held = namespaces.held.iter();
    let ready = Ready {
        version: protocol::PROTOCOL_VERSION,
        pid: identity.pid,
        start_time: identity.start_time,
        boot_id: identity.boot_id,
        namespaces: held
            .map(|one| (one.kind.file_name().to_owned(), one.as_fd().as_raw_fd()))
            .collect(),
    };
    let bytes = serde_json::to_vec(&ready).expect("plain data becomes JSON");
    AtomicFile::private(dir.ready()).write(&bytes)
}

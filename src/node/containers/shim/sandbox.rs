//! The sandbox's namespaces: made when the shim starts, held by it as descriptors, gone with it.
#![allow(unsafe_code)]

use cri::IdMapping;
use linux::namespaces::{self, IdRange, Namespace, NamespaceKind};
use linux::process::{fork_child, wait_child};
use linux::{Doing, Error};
use nix::sys::signal::{SigSet, Signal};
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// What a shim is told when it starts.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct ShimConfiguration {
    pub(crate) network: bool,
    pub(crate) ipc: bool,
    pub(crate) uts: bool,
    /// A pid namespace that all containers share, with a small process of ours as its first.
    pub(crate) shared_pid: bool,
    /// Empty: the host's user namespace.
    pub(crate) user: Vec<IdMapping>,
    pub(crate) hostname: String,
    pub(crate) sysctls: BTreeMap<String, String>,
    /// The group the shim itself lives in.
    pub(crate) cgroup_path: String,
}

/// The namespaces of a sandbox and the process that holds the shared pid namespace.
pub(super) struct SandboxNamespaces {
    pub(super) held: Vec<Namespace>,
    pub(super) pid_holder: Option<i32>,
}

/// Makes what the configuration asks for.
pub(super) fn create(configuration: &ShimConfiguration) -> linux::Result<SandboxNamespaces> {
    let wanted = [
        (!configuration.user.is_empty(), NamespaceKind::User),
        (configuration.network, NamespaceKind::Network),
        (configuration.ipc, NamespaceKind::Ipc),
        (configuration.uts, NamespaceKind::Uts),
    ];
    let kinds: Vec<NamespaceKind> = wanted
        .iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, kind)| *kind)
        .collect();
    let ids: Vec<IdRange> = configuration.user.iter().map(id_range).collect();
    let mut held = Vec::new();
    if !kinds.is_empty() {
        held = namespaces::create(&kinds, &ids, || set_up(configuration))?;
    }
    let mut pid_holder = None;
    if configuration.shared_pid {
        let user = held
            .iter()
            .find(|namespace| namespace.kind == NamespaceKind::User);
        let pid = start_pid_holder(user)?;
        pid_holder = Some(pid);
        held.push(Namespace::of_process(pid, NamespaceKind::Pid)?);
    }
    Ok(SandboxNamespaces { held, pid_holder })
}

fn id_range(mapping: &IdMapping) -> IdRange {
    IdRange {
        inside: mapping.container_id,
        outside: mapping.host_id,
        length: mapping.length,
    }
}

/// Runs inside the new namespaces.
fn set_up(configuration: &ShimConfiguration) -> linux::Result<()> {
    if !configuration.user.is_empty() {
        // Some sysctls look at who writes, not at what he may.
        let root = nix::unistd::Gid::from_raw(0);
        nix::unistd::setresgid(root, root, root).doing(|| "become root inside".to_owned())?;
        let root = nix::unistd::Uid::from_raw(0);
        nix::unistd::setresuid(root, root, root).doing(|| "become root inside".to_owned())?;
    }
    if configuration.uts {
        namespaces::set_hostname(&configuration.hostname)?;
    }
    if configuration.network {
        namespaces::loopback_up()?;
    }
    for (name, value) in &configuration.sysctls {
        linux::sysctl::write(name, value)?;
    }
    Ok(())
}

/// Starts the first process of a shared pid namespace, as a child of the shim: it reaps orphans and does nothing else.
///
/// A helper makes the namespace, so that the shim itself stays where it is, and clones with `CLONE_PARENT`.
fn start_pid_holder(user: Option<&Namespace>) -> linux::Result<i32> {
    let (mut from_helper, mut to_shim) = std::io::pipe().doing(|| "make a pipe".to_owned())?;
    let helper = fork_child(|| match clone_pid_holder(user) {
        Ok(pid) => i32::from(to_shim.write_all(&pid.to_ne_bytes()).is_err()),
        Err(_) => 1,
    })?;
    drop(to_shim);
    let exit = wait_child(helper)?;
    let mut pid = [0; 4];
    if exit.code != 0 || from_helper.read_exact(&mut pid).is_err() {
        return Err(Error::other(
            "share the pid namespace",
            "its first process could not be started",
        ));
    }
    Ok(i32::from_ne_bytes(pid))
}

fn clone_pid_holder(user: Option<&Namespace>) -> linux::Result<i32> {
    if let Some(user) = user {
        user.enter()?;
    }
    let flags = nix::sched::CloneFlags::CLONE_NEWPID;
    nix::sched::unshare(flags).doing(|| "make a pid namespace".to_owned())?;
    // SAFETY: like fork: no stack is given and the process has one thread, so both go on with their own copy.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::CLONE_PARENT | libc::SIGCHLD,
            0,
            0,
            0,
            0,
        )
    };
    match i32::try_from(result) {
        Ok(0) => hold_pid_namespace(),
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(std::io::Error::last_os_error()).doing(|| "clone".to_owned()),
    }
}

/// Never returns. The kernel protects the first process of a namespace from signals of the others.
fn hold_pid_namespace() -> ! {
    // SAFETY: numbers only. The holder goes with its shim, and the namespace with the holder.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"pause".as_ptr(), 0, 0, 0);
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
    }
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    loop {
        while linux::process::reap().is_some() {}
        if children.wait().is_err() {
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(1) }
        }
    }
}

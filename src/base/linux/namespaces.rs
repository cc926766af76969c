//! Namespaces held by descriptor: they live while the descriptor is open, and need no process.

use crate::error::{Doing, Error, Result};
use crate::process::{fork_child, wait_child};
use nix::sched::CloneFlags;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceKind {
    Network,
    Ipc,
    Uts,
    User,
    Pid,
    Mount,
}

impl NamespaceKind {
    /// The name of its file in /proc/PID/ns.
    pub fn file_name(self) -> &'static str {
        match self {
            NamespaceKind::Network => "net",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::User => "user",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Mount => "mnt",
        }
    }

    fn flag(self) -> CloneFlags {
        match self {
            NamespaceKind::Network => CloneFlags::CLONE_NEWNET,
            NamespaceKind::Ipc => CloneFlags::CLONE_NEWIPC,
            NamespaceKind::Uts => CloneFlags::CLONE_NEWUTS,
            NamespaceKind::User => CloneFlags::CLONE_NEWUSER,
            NamespaceKind::Pid => CloneFlags::CLONE_NEWPID,
            NamespaceKind::Mount => CloneFlags::CLONE_NEWNS,
        }
    }
}

/// A range of ids inside a user namespace and where it lies outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub length: u32,
}

/// A namespace and what it is.
#[derive(Debug)]
pub struct Namespace {
    pub kind: NamespaceKind,
    fd: OwnedFd,
}

impl Namespace {
    /// The namespace a process is in.
    pub fn of_process(pid: i32, kind: NamespaceKind) -> Result<Namespace> {
        let path = format!("/proc/{pid}/ns/{}", kind.file_name());
        let file = File::open(&path).doing(|| format!("open {path}"))?;
        Ok(Namespace {
            kind,
            fd: file.into(),
        })
    }

    /// A descriptor that came from elsewhere.
    pub fn from_fd(kind: NamespaceKind, fd: OwnedFd) -> Namespace {
        Namespace { kind, fd }
    }

    /// Moves the calling thread into the namespace. A user namespace needs a single-threaded process.
    pub fn enter(&self) -> Result<()> {
        nix::sched::setns(&self.fd, self.kind.flag())
            .doing(|| format!("enter {} namespace", self.kind.file_name()))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes namespaces in a short-lived child and returns them held by descriptor.
///
/// With `NamespaceKind::User` the others belong to it, and `ids` must not be empty. `setup` runs inside, in the
/// child, as the namespaces' root. For a single-threaded process only.
pub fn create(
    kinds: &[NamespaceKind],
    ids: &[IdRange],
    setup: impl FnOnce() -> Result<()>,
) -> Result<Vec<Namespace>> {
    let pipe = || std::io::pipe().doing(|| "make a pipe".to_owned());
    let ((mut from_child, to_parent), (from_parent, mut to_child)) = (pipe()?, pipe()?);
    let flags = kinds
        .iter()
        .fold(CloneFlags::empty(), |flags, kind| flags | kind.flag());
    let pid = fork_child(|| {
        let (mut out, mut input) = (to_parent, from_parent);
        match live_in_new(flags, setup, &mut out, &mut input) {
            Ok(()) => 0,
            Err(error) => {
                // The parent reads the message up to the end of the pipe; if it is gone nobody wants to know.
                drop(out.write_all(error.to_string().as_bytes()));
                1
            }
        }
    })?;
    let result = pin(pid, kinds, ids, &mut from_child, &mut to_child);
    // The child waits for a last byte, and has a copy of our end: closing ours would not wake it.
    if let Some(child) = rustix::process::Pid::from_raw(pid) {
        rustix::process::kill_process(child, rustix::process::Signal::KILL)
            .doing(|| "end the child".to_owned())?;
    }
    wait_child(pid)?;
    result
}

/// One byte each way after every step; a message instead of the byte is why it failed.
const STEP_DONE: u8 = b'+';

fn live_in_new(
    flags: CloneFlags,
    setup: impl FnOnce() -> Result<()>,
    out: &mut impl Write,
    input: &mut impl Read,
) -> Result<()> {
    let step = |out: &mut dyn Write, input: &mut dyn Read| {
        out.write_all(&[STEP_DONE])
            .and_then(|()| input.read_exact(&mut [0]))
            .doing(|| "talk to the parent".to_owned())
    };
    nix::sched::unshare(flags).doing(|| format!("make namespaces {flags:?}"))?;
    step(out, input)?;
    setup()?;
    step(out, input)
}

fn pin(
    pid: i32,
    kinds: &[NamespaceKind],
    ids: &[IdRange],
    from_child: &mut impl Read,
    to_child: &mut impl Write,
) -> Result<Vec<Namespace>> {
    expect_step(from_child)?;
    if kinds.contains(&NamespaceKind::User) {
        write_id_maps(pid, ids)?;
    }
    to_child
        .write_all(&[STEP_DONE])
        .doing(|| "talk to the child".to_owned())?;
    expect_step(from_child)?;
    kinds
        .iter()
        .map(|kind| Namespace::of_process(pid, *kind))
        .collect()
}

fn expect_step(from_child: &mut impl Read) -> Result<()> {
    let mut first = [0];
    let got = from_child
        .read(&mut first)
        .doing(|| "hear from the child".to_owned())?;
    if got == 1 && first[0] == STEP_DONE {
        return Ok(());
    }
    let mut message = String::from_utf8_lossy(&first[..got]).into_owned();
    from_child
        .read_to_string(&mut message)
        .doing(|| "hear from the child".to_owned())?;
    Err(Error::other("set up namespaces", message))
}

/// Writes the maps of a process that has just made a user namespace.
pub fn write_id_maps(pid: i32, ids: &[IdRange]) -> Result<()> {
    let line = |range: &IdRange| format!("{} {} {}\n", range.inside, range.outside, range.length);
    let map: String = ids.iter().map(line).collect();
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(&path, &map).doing(|| format!("write {path}"))?;
    }
    Ok(())
}

/// Runs `work` on a thread of its own inside a namespace, and waits for it.
pub fn in_namespace<T: Send>(namespace: &Namespace, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| namespace.enter().map(|()| work()));
        worker
            .join()
            .unwrap_or_else(|_| Err(Error::other("work in a namespace", "the thread panicked")))
    })
}

/// Switches the loopback link of the calling thread's network namespace on.
pub fn loopback_up() -> Result<()> {
    use std::os::fd::AsRawFd;
    let described = || "switch on lo".to_owned();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").doing(described)?;
    // SAFETY: all zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        // Letters are signed on x86_64 and unsigned on aarch64.
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("two low bits");
    // SAFETY: the request is a valid ifreq that the kernel only reads.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS.cast_signed() as _,
            &raw const request,
        )
    };
    if result < 0 {
        Err(std::io::Error::last_os_error()).doing(described)
    } else {
        Ok(())
    }
}

/// Names the host of the calling thread's uts namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).doing(|| format!("set hostname {name:?}"))
}

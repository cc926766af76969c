//! Network namespaces: a thread that enters one is used for nothing else, so no task ever runs in the wrong namespace.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// A network namespace, kept alive by this handle.
#[derive(Debug)]
pub struct NetworkNamespace(OwnedFd);

impl NetworkNamespace {
    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        // `/proc/self` would be the main thread's namespace.
        File::open("/proc/thread-self/ns/net").map(|file| Self(file.into()))
    }

    /// A new namespace with nothing but a `lo` that is down.
    pub fn create() -> io::Result<Self> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Self::current()
        })
    }

    /// The namespace that a file (of `/proc/<pid>/ns/net` or a bind mount) names.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(|file| Self(file.into()))
    }

    /// A handle of its own on a namespace that somebody else holds.
    pub fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        file.try_clone_to_owned().map(Self)
    }

    /// Runs `work` on a thread that is inside this namespace and ends with it; blocks until it is done.
    ///
    /// Sockets that `work` opens stay in the namespace. `/proc/sys/net` is this namespace's.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let file = self.0.as_fd();
        on_own_thread(move || {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
    }

    /// Gives the namespace a name in the file system, which outlives this process. Creates the file.
    pub fn bind_to(&self, path: &Path) -> io::Result<()> {
        File::create(path)?;
        let source = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        mount(
            Some(source.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(io::Error::from)
    }

    /// Takes a name away that `bind_to` gave; quiet when there is none.
    pub fn unbind(path: &Path) -> io::Result<()> {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for NetworkNamespace {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

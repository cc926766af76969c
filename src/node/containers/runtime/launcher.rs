//! Where shims run from, and how one is started.
//!
//! Never from the plain file: a container that executes `/proc/self/exe` runs our binary, and could open it for
//! writing. A read-only bind mount of it refuses that; where mounting is impossible, a sealed copy in memory does.

use super::Inner;
use crate::error::Error;
use crate::layout::{Layout, SandboxDir};
use crate::shim;
use linux::{Doing, mounts};
use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Root of a user namespace must be able to pass through to its staged mounts, and sees no names on the way. What
/// is secret in these directories is a file of mode 0600.
const DIRECTORY_MODE: u32 = 0o711;

/// The binary that shims run from.
pub(super) enum ShimBinary {
    ReadOnlyMount(PathBuf),
    SealedMemory(OwnedFd),
}

/// Makes `<data-dir>/run`, a tmpfs where that is possible: records of an earlier boot are gone then by themselves.
pub(super) fn prepare_run_directory(layout: &Layout) -> Result<(), Error> {
    make_directory(layout.run())?;
    let run = layout.run().canonicalize().map_err(|source| Error::Io {
        doing: format!("resolve {}", layout.run().display()),
        source,
    })?;
    if !mounts::is_mount_point(&run)? {
        if let Err(error) = mounts::tmpfs(&run, "mode=0711") {
            tracing::warn!(%error, "run-time state is kept on disk");
        } else {
            // Sandboxes mount below it; none of that is anybody else's business.
            mounts::make_private_recursive(&run)?;
        }
    }
    make_directory(&layout.sandboxes())?;
    make_directory(&layout.binaries())
}

pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path);
    made.map_err(|source| Error::Io {
        doing: format!("make directory {}", path.display()),
        source,
    })
}

impl ShimBinary {
    /// Mounts the running binary; an earlier version stays mounted for the shims that run from it.
    pub(super) fn install(layout: &Layout) -> Result<ShimBinary, Error> {
        let mounted = mount_binary(layout);
        match mounted {
            Ok(path) => Ok(ShimBinary::ReadOnlyMount(path)),
            Err(error) => {
                tracing::warn!(%error, "shims run from a copy of the binary in memory");
                Ok(ShimBinary::SealedMemory(seal_binary()?))
            }
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            ShimBinary::ReadOnlyMount(path) => path.clone(),
            ShimBinary::SealedMemory(fd) => PathBuf::from(format!(
                "/proc/{}/fd/{}",
                std::process::id(),
                fd.as_raw_fd()
            )),
        }
    }
}

fn mount_binary(layout: &Layout) -> linux::Result<PathBuf> {
    let own = std::env::current_exe().doing(|| "find the own binary".to_owned())?;
    let metadata = own.metadata().doing(|| format!("stat {}", own.display()))?;
    let name = format!(
        "{:x}-{:x}-{:x}",
        metadata.dev(),
        metadata.ino(),
        metadata.ctime()
    );
    let target = layout.binaries().join(name);
    let target = match target.parent().map(Path::canonicalize) {
        Some(Ok(parent)) => parent.join(target.file_name().unwrap_or_default()),
        _ => target,
    };
    if !mounts::is_mount_point(&target)? {
        File::create(&target).doing(|| format!("create {}", target.display()))?;
        mounts::bind_read_only(&own, &target)?;
    }
    Ok(target)
}

fn seal_binary() -> linux::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("combo", flags).doing(|| "make a memory file".to_owned())?;
    let mut copy = File::from(fd);
    let mut own = File::open("/proc/self/exe").doing(|| "open the own binary".to_owned())?;
    std::io::copy(&mut own, &mut copy).doing(|| "copy the own binary".to_owned())?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals).doing(|| "seal the own binary".to_owned())?;
    Ok(copy.into())
}

impl Inner {
    /// Starts the shim of a sandbox whose directory is prepared; returns when it is ready, or why it is not.
    pub(super) fn start_shim(&self, dir: &SandboxDir) -> Result<(), String> {
        let output = Command::new(self.binary.path())
            .arg(shim::ARGUMENT)
            .arg(dir.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(|error| format!("start a shim: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

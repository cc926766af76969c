//! Where run-time state lies: one place for every path below the data directory.

use cri::{ContainerId, PodSandboxId};
use std::path::{Path, PathBuf};

/// `<data-dir>/run`, a tmpfs: what is in it is gone after a reboot, as the processes are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    run: PathBuf,
}

impl Layout {
    pub(crate) fn new(data_dir: &Path) -> Layout {
        Layout {
            run: data_dir.join("run"),
        }
    }

    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    /// Held by the one runtime of this data directory.
    pub(crate) fn lock(&self) -> PathBuf {
        self.run.join("runtime.lock")
    }

    /// Read-only mounts of the binary that shims run from.
    pub(crate) fn binaries(&self) -> PathBuf {
        self.run.join("binaries")
    }

    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.run.join("sandboxes")
    }

    pub(crate) fn sandbox(&self, id: &PodSandboxId) -> SandboxDir {
        SandboxDir {
            path: self.sandboxes().join(&id.0),
        }
    }
}

/// Everything of one sandbox. The shim knows this part and nothing above it.
#[derive(Debug, Clone)]
pub(crate) struct SandboxDir {
    path: PathBuf,
}

impl SandboxDir {
    pub(crate) fn at(path: PathBuf) -> SandboxDir {
        SandboxDir { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The runtime's record.
    pub(crate) fn record(&self) -> PathBuf {
        self.path.join("sandbox.json")
    }

    /// What the shim is told when it starts.
    pub(crate) fn shim_configuration(&self) -> PathBuf {
        self.path.join("shim.json")
    }

    /// What the shim tells when it is ready.
    pub(crate) fn ready(&self) -> PathBuf {
        self.path.join("ready.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("shim.sock")
    }

    /// libcontainer's root.
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    pub(crate) fn shm(&self) -> PathBuf {
        self.path.join("shm")
    }

    pub(crate) fn hostname(&self) -> PathBuf {
        self.path.join("hostname")
    }

    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.path.join("resolv.conf")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.path.join("containers")
    }

    pub(crate) fn container(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir {
            path: self.containers().join(&id.0),
        }
    }
}

/// Everything of one container; its OCI bundle.
#[derive(Debug, Clone)]
pub(crate) struct ContainerDir {
    path: PathBuf,
}

impl ContainerDir {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The runtime's record.
    pub(crate) fn record(&self) -> PathBuf {
        self.path.join("container.json")
    }

    /// OCI's configuration, without which no exec works either.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// The process plan.
    pub(crate) fn launch(&self) -> PathBuf {
        self.path.join("launch.json")
    }

    /// How it ended; written by the shim, or by the runtime when no process ever ran.
    pub(crate) fn exit(&self) -> PathBuf {
        self.path.join("exit.json")
    }

    /// Where id-mapped copies of mounts are made, one directory or file each.
    pub(crate) fn staged_mounts(&self) -> PathBuf {
        self.path.join("mounts")
    }
}

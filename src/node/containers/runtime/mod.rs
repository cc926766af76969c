//! The runtime: what is asked of it becomes records on a tmpfs, cgroups, and calls to shims.
//!
//! State in memory is a copy of what disk and shims say; a task per sandbox keeps it true by listening to its shim.

mod adopt;
mod containers;
mod create;
mod files;
mod launcher;
mod sandboxes;
mod service;
mod sessions;
mod shim_client;
mod state;
mod stats;
mod streams;

use crate::error::{Error, internal};
use crate::layout::Layout;
use cri::{ContainerEvent, ImageService, SandboxNetwork};
use env::{Clock, Rng};
use launcher::ShimBinary;
use linux::cgroup::{Cgroup, Cgroups};
use linux::file_lock::FileLock;
use state::State;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Events that a slow receiver may be behind.
const EVENTS_MAX: usize = 4096;
/// Random bytes of an id.
const ID_BYTES: usize = 32;

/// How to run containers on this node.
pub struct RuntimeOptions {
    /// Its `run` directory becomes a tmpfs with everything of run time.
    pub data_dir: PathBuf,
    /// Names this installation on the host (for example a short hash of the data directory): its cgroup root.
    pub instance: String,
    /// The group below which the cgroup root is made: `/`, or the delegated group of the service.
    pub cgroup_parent: String,
    pub images: Arc<dyn ImageService>,
    pub network: Arc<dyn SandboxNetwork>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub log_limits: LogLimits,
    /// Shown as the runtime's version.
    pub version: String,
}

/// When a container's log is rotated, and how many files are kept, the current one among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// 0: never.
    pub bytes_max: u64,
    pub files_max: u32,
}

/// The kubelet's defaults: `containerLogMaxSize: 10Mi`, `containerLogMaxFiles: 5`.
impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits {
            bytes_max: 10 << 20,
            files_max: 5,
        }
    }
}

/// The containers of this node. Cheap to clone; dropping it stops nothing.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    options: RuntimeOptions,
    layout: Layout,
    cgroups: Cgroups,
    binary: ShimBinary,
    state: Mutex<State>,
    events: broadcast::Sender<ContainerEvent>,
    _lock: FileLock,
}

impl Runtime {
    /// Opens the runtime of a data directory: adopts sandboxes and containers that still run, and cleans up what an
    /// earlier boot or a crash left behind. Call it inside a tokio runtime.
    pub async fn open(options: RuntimeOptions) -> Result<Runtime, Error> {
        let layout = Layout::new(&options.data_dir);
        launcher::prepare_run_directory(&layout)?;
        let lock = FileLock::attempt(&layout.lock())?;
        let lock = lock.ok_or_else(|| Error::InUse(options.data_dir.clone()))?;
        let inner = Arc::new(Inner {
            cgroups: Cgroups::detect()?,
            binary: ShimBinary::install(&layout)?,
            state: Mutex::new(State::default()),
            events: broadcast::channel(EVENTS_MAX).0,
            layout,
            options,
            _lock: lock,
        });
        adopt::adopt(&inner).await?;
        Ok(Runtime { inner })
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is one assignment: a panic in between leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self) -> String {
        let mut bytes = [0; ID_BYTES];
        self.options.rng.fill(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The group that everything of this installation is below.
    fn cgroup_root(&self) -> Cgroup {
        let parent = self.options.cgroup_parent.trim_end_matches('/');
        self.cgroups
            .group(&format!("{parent}/{}", self.options.instance))
    }

    /// The group that shims live in, apart from pods so that no pod's limit meets them.
    fn shims_group(&self) -> Cgroup {
        self.cgroup_root().child("shims")
    }

    fn pod_group(&self, config: &cri::PodSandboxConfig) -> Cgroup {
        let root = self.cgroup_root();
        let parent = match config.cgroup_parent.qos_class {
            cri::QosClass::Guaranteed => root,
            cri::QosClass::Burstable => root.child("burstable"),
            cri::QosClass::BestEffort => root.child("besteffort"),
        };
        parent.child(&format!("pod{}", config.pod.uid))
    }
}

/// Runs blocking work on its own thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> cri::Result<T> + Send + 'static,
) -> cri::Result<T> {
    env::spawn_blocking(work).await.map_err(internal)?
}

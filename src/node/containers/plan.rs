//! What one process of a container becomes in its last mile: computed before the first fork, as plain data.

use crate::capabilities::ProcessCapabilities;
use crate::seccomp::Filter;
use std::path::PathBuf;

/// Everything the executor needs. Written to the bundle for the container's first process; an exec takes it with
/// another command.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProcessPlan {
    pub(crate) args: Vec<String>,
    /// `NAME=value`, in order.
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// `None`: privileged, keep all.
    pub(crate) capabilities: Option<ProcessCapabilities>,
    pub(crate) no_new_privileges: bool,
    /// `None`: unconfined.
    pub(crate) filter: Option<Filter>,
}

/// What the shim's worker reads from the bundle besides the OCI configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Launch {
    /// -1000 to 1000; `None` leaves what the shim has.
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) plan: ProcessPlan,
}

/// Where a command is looked for when its environment has no PATH.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl ProcessPlan {
    /// The files that the command may be, in the order they are tried.
    pub(crate) fn candidates(&self) -> Vec<PathBuf> {
        let Some(command) = self.args.first().filter(|command| !command.is_empty()) else {
            return Vec::new();
        };
        if command.contains('/') {
            return vec![PathBuf::from(command)];
        }
        let path = self
            .env
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix("PATH="));
        let directories = path.unwrap_or(DEFAULT_PATH).split(':');
        directories
            .map(|directory| if directory.is_empty() { "." } else { directory })
            .map(|directory| PathBuf::from(directory).join(command))
            .collect()
    }
}

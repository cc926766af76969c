//! What a container's process may do.

use std::path::PathBuf;

/// CRI's `LinuxContainerSecurityContext`, as types.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LinuxContainerSecurityContext {
    pub privilege: Privilege,
    pub user: RunAsUser,
    /// Group of the process; `None`: the user's group in the image's passwd, else 0.
    pub run_as_group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    pub no_new_privileges: bool,
    pub read_only_root_filesystem: bool,
    pub seccomp: SeccompProfile,
    pub proc_mount: ProcMount,
    /// More paths to hide than the runtime's own list; the list itself follows `proc_mount`.
    pub masked_paths: Vec<String>,
    /// More paths to make read-only than the runtime's own list.
    pub readonly_paths: Vec<String>,
}

/// Whether the container keeps the host's rights.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Privilege {
    /// All capabilities, all devices, no filter, writable /sys and /proc.
    Privileged,
    /// The default set of capabilities, changed by this.
    Confined(Capabilities),
}

impl Default for Privilege {
    fn default() -> Self {
        Privilege::Confined(Capabilities::default())
    }
}

/// Changes of the default capabilities. Names with or without `CAP_`, any case; `ALL` means every one.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capabilities {
    pub add: Vec<String>,
    pub drop: Vec<String>,
    /// Kept through execve by a user other than root, too.
    pub add_ambient: Vec<String>,
}

/// Who the process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RunAsUser {
    /// What the image says; root when it says nothing.
    #[default]
    Image,
    Uid(u32),
    /// `user[:group]` to be looked up in the image.
    Name(String),
}

/// Whether the image's /etc/group adds groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SupplementalGroupsPolicy {
    #[default]
    Merge,
    Strict,
}

/// The system-call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SeccompProfile {
    RuntimeDefault,
    #[default]
    Unconfined,
    /// Absolute path of an OCI profile in JSON on the node.
    Localhost(PathBuf),
}

/// How /proc looks inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ProcMount {
    /// Sensitive paths are hidden or read-only.
    #[default]
    Default,
    Unmasked,
}

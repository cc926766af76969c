//! A pod sandbox: the namespaces, cgroup and identity that a pod's containers share.

use crate::{IdMapping, LinuxResources, PortMapping};
use env::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// The id of a sandbox, made by the runtime: 64 lower-case hex digits.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct PodSandboxId(pub String);

impl fmt::Display for PodSandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which pod this is.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct PodIdentity {
    pub uid: String,
    pub name: String,
    pub namespace: String,
}

/// How to make a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PodSandboxConfig {
    pub pod: PodIdentity,
    /// Counts the sandboxes of one pod from 0.
    pub attempt: u32,
    /// Ignored on the host's network.
    pub hostname: String,
    /// Written to `/etc/resolv.conf` of every container of the pod; `None`: the node's file.
    pub dns: Option<DnsConfig>,
    /// Directory of the pod's logs; `log_path` of its containers is relative to it.
    pub log_directory: PathBuf,
    pub port_mappings: Vec<PortMapping>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub namespaces: NamespaceOptions,
    /// Namespaced sysctls, set before the first container starts.
    pub sysctls: BTreeMap<String, String>,
    pub cgroup_parent: CgroupParent,
    /// Limits of the whole pod, written to its cgroup; defaults leave it unlimited.
    pub resources: LinuxResources,
}

/// Which branch of the cgroup tree the pod's cgroup hangs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CgroupParent {
    pub qos_class: QosClass,
}

/// The pod's quality of service.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    #[default]
    BestEffort,
}

/// Contents of `/etc/resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// Which namespaces the pod has of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NamespaceOptions {
    pub network: NamespaceMode,
    pub ipc: NamespaceMode,
    pub pid: PidMode,
    pub user: UserNamespace,
}

/// The pod's own namespace, or the node's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum NamespaceMode {
    #[default]
    Pod,
    Node,
}

/// Who sees whose processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PidMode {
    /// Each container its own namespace.
    #[default]
    Container,
    /// One for the pod (`shareProcessNamespace`).
    Pod,
    /// The node's (`hostPID`).
    Node,
}

/// Whether root inside is root outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum UserNamespace {
    #[default]
    Node,
    /// The same mapping for users and groups.
    Pod(IdMapping),
}

/// Whether a sandbox can run containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PodSandboxState {
    Ready,
    NotReady,
}

/// A sandbox as the runtime knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSandbox {
    pub id: PodSandboxId,
    pub pod: PodIdentity,
    pub attempt: u32,
    pub state: PodSandboxState,
    pub created_at: Timestamp,
    /// Primary first; empty on the host's network.
    pub addresses: Vec<IpAddr>,
    pub namespaces: NamespaceOptions,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

//! How a sandbox gets its addresses: a narrow trait that the pod network implements and the runtime calls.

use crate::{PodIdentity, Result};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// Gives addresses to sandboxes with a network namespace of their own.
#[async_trait]
pub trait SandboxNetwork: Send + Sync {
    /// Connects the namespace and returns the pod's addresses, the primary one first.
    ///
    /// Idempotent per pod UID: a second call for the same pod returns the same addresses and repairs what is missing.
    async fn attach(&self, attachment: NetworkAttachment<'_>) -> Result<Vec<IpAddr>>;
    /// Takes back addresses and links of a pod. Succeeds when there is nothing to take back.
    async fn detach(&self, pod_uid: &str) -> Result<()>;
    /// Whether what [`SandboxNetwork::attach`] made for a pod is still there and works. Only those who can look have an answer.
    async fn check(&self, _pod_uid: &str, _netns: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }
    /// UIDs of the pods that hold an address now; the runtime detaches those it does not know.
    async fn existing(&self) -> Result<Vec<String>>;
}

/// What the pod network may know about a sandbox.
#[derive(Debug)]
pub struct NetworkAttachment<'a> {
    pub pod: &'a PodIdentity,
    pub labels: &'a BTreeMap<String, String>,
    pub annotations: &'a BTreeMap<String, String>,
    /// The sandbox's network namespace. `lo` is up in it already.
    pub netns: BorrowedFd<'a>,
    pub port_mappings: &'a [PortMapping],
}

/// A `hostPort` of a container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PortMapping {
    pub protocol: Protocol,
    pub container_port: u16,
    pub host_port: u16,
    /// Empty: every address of the node.
    pub host_ip: Option<IpAddr>,
}

/// A transport protocol of a port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

//! What the overlay of a node is told when it is made.

use super::Backend;
use ipnet::IpNet;
use std::path::PathBuf;

/// Settings of one node's overlay.
#[derive(Debug, Clone)]
pub struct OverlayConfig {
    pub node_name: String,
    /// The same as the pod network's: a short hash that tells the Combo instances of a machine apart.
    pub instance: String,
    pub backend: Backend,
    /// The node's own pod ranges.
    pub pod_cidrs: Vec<IpNet>,
    /// The pod ranges of the whole cluster: nothing else is believed to be behind a node.
    pub cluster_cidrs: Vec<IpNet>,
    pub checksums: Checksums,
    /// Where the node's WireGuard key is kept.
    pub private_key: PathBuf,
}

/// Who computes the checksums of packets in a VXLAN tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksums {
    /// Whoever sends the packet at last; the quick way.
    #[default]
    Offloaded,
    /// The kernel, before the tunnel; for network cards that get it wrong. Throughput falls to a quarter.
    Computed,
}

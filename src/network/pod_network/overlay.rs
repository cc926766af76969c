//! Between nodes: which node a pod's address is behind, as routes and, where nodes do not share a link, a tunnel.
//!
//! Every node tells what others need of it in annotations of its own Node. What should be in the kernel is computed from all
//! Nodes by a pure plan; the difference to what is there is written. A cluster of one node has no tunnel at all.
//!
//! Not built: the address family under the tunnel is that of the node's first address, so a node with IPv4 alone and one
//! with IPv6 alone do not reach each other.

mod backend;
mod config;
mod difference;
mod facts;
mod follow;
mod kernel;
mod plan;
mod private_key;

pub use backend::{Backend, UnknownBackend};
pub use config::{Checksums, OverlayConfig};
pub use facts::pod_cidrs_of;
pub use follow::{Overlay, OverlayParts};
pub(crate) use kernel::clean_up;

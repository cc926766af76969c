//! The pod network of a node: routed point-to-point links without a bridge, addresses whose truth is the kernel.
//!
//! Each pod has a veth pair; the host's end has no address, and a route to the pod's address leads to it. All traffic
//! of pods, also between pods of one node, is routed and so passes the forward hook, where policies stand.
//!
//! A pod's gateway, 169.254.1.1, is nobody's address: it forwards and does not answer pings.
//!
//! Offered: [`PodNetwork`] connects pods and gives them addresses; [`NodeLink`] holds the node's own address in the pod
//! network and the route to the Services; [`AddressRule`] finds and follows the addresses that a node should report,
//! [`uplink_mtu`] the size of packets; [`Overlay`] leads to the pods of other nodes.

mod address_pool;
mod error;
mod executor;
mod identity;
mod node_addresses;
mod node_link;
mod overlay;
mod plan;
mod pod_network;
mod sysctl;

pub use address_pool::node_address_in;
pub use error::Error;
pub use node_addresses::{AddressRule, FollowedAddresses};
pub use node_link::{NodeLink, NodeLinkConfig, node_addresses, uplink_mtu};
pub use overlay::{
    Backend, Checksums, Overlay, OverlayConfig, OverlayParts, UnknownBackend, pod_cidrs_of,
};
pub use pod_network::{AttachedPod, Config, PodNetwork};

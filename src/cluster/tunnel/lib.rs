//! The one connection that an agent keeps to each server, and what the server reaches through it.
//!
//! Only agents dial. Over such a connection the server opens streams (yamux), each with a target: the node's kubelet, or an address of a
//! pod or Service as seen from that node. The agent refuses every other target.
//!
//! Offered: [`Tunnels`] for a server, [`serve`] and [`keep`] for an agent, [`Servers`] for an agent's choice among several servers.

mod agent;
mod keep;
mod multiplexer;
mod servers;
mod target;
mod tunnels;

pub use agent::{Doors, serve};
pub use keep::{Link, keep};
pub use multiplexer::{ByteStream, STREAMS_MAX, TunnelStream};
pub use servers::{Known, Servers};
pub use target::Target;
pub use tunnels::{OpenError, Tunnels};

//! Starts and stops the components of a server in order; decides nothing itself.

mod clean_up;
mod cluster_dns;
mod components;
mod control_groups;
mod control_plane;
mod dialer;
mod keep_running;
mod names;
mod network_policies;
mod node;
mod node_network;
mod node_role;
mod sandbox_network;
mod server;
mod tls;

pub use clean_up::clean_up;
pub use server::{Server, StartError};

//! Starts and stops the components of a server or an agent in order; decides nothing itself.

mod agent;
mod clean_up;
mod client_authorities;
mod cluster_dns;
mod components;
mod control_groups;
mod control_plane;
mod dialer;
mod etcd_listener;
mod join_paths;
mod keep_running;
mod known_servers;
mod local_door;
mod machine_time;
mod missing_address;
mod names;
mod network_policies;
mod node;
mod node_memory;
mod node_network;
mod node_role;
mod peer_images;
mod renewal;
mod sandbox_network;
mod served_certificate;
mod server;
mod scheduled_snapshots;
mod server_addresses;
mod server_choice;
mod tls;

pub use agent::Agent;
mod upkeep;
pub use clean_up::clean_up;
pub use node::node_socket;
pub use server::{Server, StartError};
pub use upkeep::{Done, StoreStatus, Upkeep, check_database, upkeep};

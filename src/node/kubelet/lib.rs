//! The kubelet: makes the pods bound to this node run, tells how they are, and serves their logs and streams.

mod admission;
mod cleanup;
mod config;
mod container;
mod events;
mod eviction;
mod images;
mod kept;
mod kubelet;
mod last_known;
mod logs;
mod node;
mod objects;
#[cfg(test)]
mod offline_tests;
mod orphans;
mod pods;
mod probes;
mod resize;
mod server;
mod services;
mod static_pods;
mod status;
mod time;
mod worker;
mod worker_defaults;

pub use config::Config;
pub use eviction::Thresholds;
pub use images::GcPolicy;
pub use kept::{kept_on_a_node, remembered_addresses};
pub use kubelet::{Kubelet, Parts};
pub use node::Capacity;
pub use node::memory_limits::MemoryLimits;
pub use pods::{Origin, Wanted};
pub use server::{
    ApiAuthorizer, Attributes, Identity, KubeletAuthorizer, KubeletServer, ServerParts,
};

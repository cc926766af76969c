//! The kubelet's own HTTPS server: who asks is authenticated and authorized before anything is answered. On the node's socket, only root
//! asks.

mod access;
mod answer;
mod logs;
mod metrics;
mod node_api;
mod pods;
mod registry;
mod route;
mod serve;
mod stats;
mod streaming;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use pods::list as pod_list;

pub use access::{ApiAuthorizer, Attributes, Identity, KubeletAuthorizer};
pub use serve::{KubeletServer, ServerParts};

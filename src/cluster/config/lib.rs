//! What a person said, and what follows from it: flags over variables over files over defaults.
//!
//! Two steps: `ServerFlags` and `AgentFlags` are what was said, all of it optional; `ServerConfig` and `AgentConfig` are what
//! holds, all of it checked. Files and variables of k3s become words of the command line before they are read.

mod agent;
mod agent_flags;
mod built_in;
mod datastore;
mod error;
mod file;
mod flags;
mod k3s;
mod layers;
mod network;
mod node;
mod paths;
mod proxies;
mod s3;
mod s3_flags;
mod server;
mod service_accounts;
mod shared_flags;
mod snapshot_flags;
mod snapshots;
#[cfg(test)]
mod tests;
mod token;

pub use agent::{AgentConfig, ServerAddress};
pub use agent_flags::AgentFlags;
pub use built_in::BuiltIn;
pub use datastore::{DatastoreConfig, DatastoreFlags};
pub use error::ConfigError;
pub use file::readable_values;
pub use flags::ServerFlags;
pub use layers::{explain, more_words};
pub use network::NetworkConfig;
pub use node::NodeConfig;
pub use paths::{DEFAULT_CONFIG_FILE, DEFAULT_DATA_DIR, DEFAULT_KUBECONFIG};
pub use proxies::{ImageProxies, ProxyVariables};
pub use s3::{BucketLookup, S3Config};
pub use s3_flags::S3Flags;
pub use server::ServerConfig;
pub use service_accounts::ServiceAccountConfig;
pub use shared_flags::{GeneralFlags, NodeFlags};
pub use snapshot_flags::SnapshotFlags;
pub use snapshots::{
    DEFAULT_SNAPSHOT_RETENTION, DEFAULT_SNAPSHOT_SCHEDULE, SnapshotConfig, is_file_name,
};

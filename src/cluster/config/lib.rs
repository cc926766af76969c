//! How a server is configured: flags, then `COMBO_*` variables, then the config file, then defaults.
//!
//! Two steps: `ServerFlags` is what was said, all of it optional; `ServerConfig` is what holds, all of it checked.

mod flags;
mod server;
mod service_accounts;

pub use flags::ServerFlags;
pub use server::{ConfigError, DEFAULT_CONFIG_FILE, NodeConfig, ServerConfig};
pub use service_accounts::ServiceAccountConfig;

//! What a pod's spec means for the runtime: pure functions from spec and facts of the node to CRI configurations.

pub(crate) mod dns;
pub(crate) mod env;
pub(crate) mod expand;
pub(crate) mod hosts_file;
pub(crate) mod labels;
pub(crate) mod make;
pub(crate) mod mounts;
pub(crate) mod resources;
pub(crate) mod sandbox;
pub(crate) mod security;
pub(crate) mod service_env;
pub(crate) mod unsupported;

/// A spec that cannot be turned into a configuration; the text goes to the user as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

pub(crate) type Result<T> = std::result::Result<T, ConfigError>;

pub(crate) fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(ConfigError(text.into()))
}

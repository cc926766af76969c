//! What can go wrong between the node and its network plugins.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cni plugin not initialized: there is no network configuration in {}; install a network plugin, which puts one there", .0.display()
    )]
    NoConfiguration(PathBuf),
    #[error("network configuration {}: {why}", .path.display())]
    Configuration { path: PathBuf, why: String },
    #[error("network plugin {name}: {why}")]
    Program { name: String, why: String },
    #[error("network plugin {plugin} did not {command}")]
    Plugin {
        plugin: String,
        command: &'static str,
        source: PluginError,
    },
    #[error("network plugin {plugin} has not ended its {command} after {} s", .after.as_secs())]
    TimedOut {
        plugin: String,
        command: &'static str,
        after: Duration,
    },
    #[error("network plugin {plugin}: its answer cannot be used: {why}")]
    Answer { plugin: String, why: String },
    #[error("what is kept about connected pods: {doing}")]
    Kept { doing: String, source: linux::Error },
    #[error("pod UID {0:?} cannot be the name of a file")]
    PodUid(String),
    #[error("{doing}")]
    System {
        doing: &'static str,
        source: io::Error,
    },
}

/// A plugin's own words ("Error" of the CNI specification).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{msg} (code {code}){}{details}", if .details.is_empty() { "" } else { ": " })]
pub struct PluginError {
    /// Below 100 the specification's, above the plugin's.
    #[serde(default)]
    pub code: u32,
    #[serde(default)]
    pub msg: String,
    #[serde(default)]
    pub details: String,
}

//! The volumes of pods on a node: one file per kind, and [`NodeVolumes`] for all of them.
//!
//! Contents come through [`Objects`], so nothing here talks to the API server.

mod atomic_writer;
mod config_map;
mod downward_api;
mod empty_dir;
mod error;
mod host_path;
mod image;
mod nested;
mod node_volumes;
mod objects;
mod ownership;
mod payload;
mod persistent_volume_claim;
mod plugin;
mod projected;
mod secret;
mod sub_path;
mod tokens;
mod unsupported;

pub use error::{Error, Result};
pub use node_volumes::NodeVolumes;
pub use objects::{Objects, Token, TokenRequest, TokenSource};
pub use plugin::MountedVolume;

#[cfg(test)]
mod test_node;
#[cfg(test)]
mod tests;

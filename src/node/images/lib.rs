//! Images on a node: import, pull, verify, unpack, mount, collect.
//!
//! [`ImageStore`] is the whole of it, for a running node and for the command line alike: it is a directory under file locks. Its methods block.
//! [`pull`] fills it from registries, [`LocalImageService`] is its face to the kubelet and keeps it in step with archives and `registries.yaml`.

mod air_gap;
mod archive;
mod arrivals;
mod compression;
mod contents;
mod digest;
mod error;
mod export;
mod follow;
mod index;
mod layers;
mod layout;
mod manifest;
mod peers;
mod platform;
mod pull;
mod reference;
mod refusal;
mod registries;
mod rootfs;
mod service;
mod shared;
mod store;
mod tar_reader;
mod unpack;
mod verify;
mod watch;

pub use air_gap::AirGapFiles;
pub use archive::ImportedImage;
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use peers::{Peer, Peers, Pieces};
pub use platform::Platform;
pub use pull::{Proxies, PullSettings, pull};
pub use reference::Reference;
pub use refusal::Refusal;
pub use registries::{DefaultEndpoint, Registries};
pub use service::LocalImageService;
pub use store::{ImageStore, Pin};
pub use unpack::UnpackLimits;
pub use watch::{StoreChange, StoreWatch};

#[cfg(test)]
mod test_archives;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_air_gap;
#[cfg(test)]
mod tests_peers;
#[cfg(test)]
mod tests_pull;

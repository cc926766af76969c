//! Images on a node: import, pull, verify, unpack, mount, collect.
//!
//! [`ImageStore`] is the whole of it, for a running node and for the command line alike: it is a directory under file locks. Its methods block.

mod archive;
mod compression;
mod digest;
mod error;
mod index;
mod layers;
mod layout;
mod manifest;
mod platform;
mod reference;
mod refusal;
mod rootfs;
mod store;
mod tar_reader;
mod unpack;

pub use archive::ImportedImage;
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use platform::Platform;
pub use reference::Reference;
pub use refusal::Refusal;
pub use store::{ImageStore, Pin};
pub use unpack::UnpackLimits;

#[cfg(test)]
mod tests;

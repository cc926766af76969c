//! What tests of etcd's API need: a client that adds nothing of its own, and an etcd to compare with.
//!
//! - [`Client`]: calls and streams on one connection, without retries, so that every outcome is seen as it is.
//! - [`Etcd`]: the process of an etcd of one member.

mod client;
mod process;

pub use client::{Call, Client};
pub use etcd::proto::{etcdserverpb as pb, mvccpb};
pub use process::{Etcd, free_port};

//! The messages and services of etcd's API, as they are on the wire.

#![allow(clippy::all, clippy::pedantic, dead_code, unreachable_pub)]

#[path = "generated/etcdserverpb.rs"]
pub mod etcdserverpb;
#[path = "generated/grpc.health.v1.rs"]
pub(crate) mod health;
#[path = "generated/mvccpb.rs"]
pub mod mvccpb;
#[path = "generated/grpc.reflection.v1.rs"]
pub(crate) mod reflection;
#[path = "generated/v3electionpb.rs"]
pub(crate) mod v3electionpb;
#[path = "generated/v3lockpb.rs"]
pub(crate) mod v3lockpb;

/// The descriptors of all of them, which reflection shows.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

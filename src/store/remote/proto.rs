//! The clients of etcd's services, as they are made from its .proto files.

#![allow(
    clippy::all,
    clippy::pedantic,
    dead_code,
    unreachable_pub,
    reason = "generated"
)]

#[path = "generated/etcdserverpb.rs"]
pub(crate) mod etcdserverpb;

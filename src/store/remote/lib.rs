//! An etcd cluster as a [`kv::Kv`], for several servers on one store.
//!
//! - [`Endpoints`], [`Security`], [`Client`]: calls to whichever member of the cluster answers.
//! - [`RemoteKv`]: the store. Reads and watches come from a mirror in this process, which one watch keeps in step; writes go to etcd.

mod channel;
mod client;
mod compactor;
mod endpoints;
mod follower;
mod fresh;
mod history;
mod mirror;
mod proto;
mod seals;
mod status;
mod store;
mod tls;
mod version;
mod watching;
mod wire;

pub use channel::Channel;
pub use client::{Client, Repeat, with_leader};
pub use endpoints::{Endpoint, Endpoints, EndpointsError};
pub use proto::etcdserverpb::{kv_client, lease_client, maintenance_client, watch_client};
pub use store::{Options, RemoteKv};
pub use tls::{Security, SecurityError};

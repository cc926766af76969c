//! An etcd cluster as a [`kv::Kv`].
//!
//! - [`Endpoints`], [`Security`], [`Client`]: calls to whichever member of the cluster answers.

mod channel;
mod client;
mod endpoints;
mod proto;
mod tls;

pub use channel::Channel;
pub use client::{Client, Repeat, with_leader};
pub use endpoints::{Endpoint, Endpoints, EndpointsError};
pub use proto::etcdserverpb::{kv_client, lease_client, maintenance_client, watch_client};
pub use tls::{Security, SecurityError};

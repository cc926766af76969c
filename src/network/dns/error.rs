//! What can go wrong in the cluster DNS.

use std::io;
use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the cluster domain {0:?} is not a DNS name")]
    Domain(String),
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("no port is free for both UDP and TCP on {0}")]
    NoCommonPort(SocketAddr),
}

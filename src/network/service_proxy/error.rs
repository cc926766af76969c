//! What can go wrong in the service proxy.

use linux::netlink::NetlinkError;
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}")]
    Netlink {
        doing: &'static str,
        source: NetlinkError,
    },
    #[error("{doing}")]
    System {
        doing: &'static str,
        source: io::Error,
    },
}

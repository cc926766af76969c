//! What can go wrong in the service proxy.

use linux::netlink::NetlinkError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}")]
    Netlink {
        doing: &'static str,
        source: NetlinkError,
    },
}

//! What can go wrong with network policies.

use linux::netlink::NetlinkError;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}")]
    Netlink {
        doing: &'static str,
        source: NetlinkError,
    },
    #[error(
        "the network policies for pod {pod} were not in force after {waited:?}, so it was not \
         connected: the node has not read them from the API server yet, or the kernel refuses them \
         (see the log)"
    )]
    NotInForce { pod: String, waited: Duration },
}

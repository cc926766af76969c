//! What can go wrong in the pod network.

use ipnet::IpNet;
use linux::netlink::NetlinkError;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("pod {pod_uid}: {doing}")]
    Pod {
        pod_uid: String,
        doing: &'static str,
        source: NetlinkError,
    },
    #[error("{doing}")]
    Node {
        doing: &'static str,
        source: NetlinkError,
    },
    #[error("{doing}")]
    System {
        doing: &'static str,
        source: io::Error,
    },
    #[error("{doing}")]
    Settings {
        doing: &'static str,
        source: linux::Error,
    },
    #[error("no address is left in {0}")]
    PoolExhausted(IpNet),
    #[error("the pod network needs one range per address family and at least one, but has {0:?}")]
    PodCidrs(Vec<IpNet>),
    #[error(
        "the cluster has not given this node pod addresses yet: look at the Events of the Node, and whether the controllers run"
    )]
    NoPodCidrs,
    #[error(
        "a pod has the address {0} of another range: drain the node, and start combo again on it"
    )]
    PodsElsewhere(IpAddr),
    #[error("there is no network interface {0}: give --flannel-iface one that `ip link` shows")]
    NoInterface(String),
    #[error("pod UID {0:?} cannot be written on a link")]
    PodUid(String),
    #[error(
        "this kernel has no WireGuard: choose another --flannel-backend, such as vxlan, or load the module wireguard"
    )]
    NoWireGuard { source: NetlinkError },
    #[error(
        "the file {} holds no WireGuard key: bring it back from a copy, or remove it, and a key is made", .0.display()
    )]
    PrivateKey(PathBuf),
    #[error("the runtime shut down before the work was done")]
    Interrupted,
}

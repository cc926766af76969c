//! Two pods cannot have the same port of a node.

use super::{Plugin, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(super) fn filter(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let mut taken = node.pods.values().flat_map(|other| &other.ports);
    let conflicts = !pod.ports.is_empty()
        && taken.any(|taken| pod.ports.iter().any(|wanted| wanted.conflicts(taken)));
    if conflicts {
        let reason = "node(s) didn't have free ports for the requested pod ports";
        return Err(Rejection::resolvable(Plugin::NodePorts, reason));
    }
    Ok(())
}

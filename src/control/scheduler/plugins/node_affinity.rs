//! Node selectors and node affinity.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PodSpec;
use semantics::node_affinity::{preferred_weight, required_matches};

use super::{Plugin, Rejection, normalize};
use crate::node::{NodeFacts, NodeInfo};

pub(super) fn filter(spec: &PodSpec, node: &NodeFacts) -> Result<(), Rejection> {
    if required_matches(spec, node) {
        return Ok(());
    }
    let reason = "node(s) didn't match Pod's node affinity/selector";
    Err(Rejection::final_for_node(Plugin::NodeAffinity, reason))
}

pub(super) fn score(spec: &PodSpec, nodes: &[(&Arc<NodeFacts>, &NodeInfo)]) -> Vec<i64> {
    normalize(
        nodes
            .iter()
            .map(|(facts, _)| preferred_weight(spec, &***facts))
            .collect(),
        false,
    )
}

//! A node must have what a pod asks for; among those that do, the emptier and more evenly used is better.

use std::sync::Arc;

use apimachinery::Quantity;

use super::{Plugin, Rejection, SCORE_MAX};
use crate::node::{NodeFacts, NodeInfo};
use crate::pod::PodInfo;

pub(super) fn filter(pod: &PodInfo, facts: &NodeFacts, node: &NodeInfo) -> Result<(), Rejection> {
    let mut reasons = Vec::new();
    let mut is_resolvable = true;
    let allowed = facts.allocatable("pods");
    let count = Quantity::from_units(i64::try_from(node.pods.len() + 1).unwrap_or(i64::MAX));
    if count > allowed {
        reasons.push("Too many pods".to_owned());
    }
    for (name, wanted) in pod.requests.iter().filter(|(_, wanted)| !wanted.is_zero()) {
        let total = facts.allocatable(name);
        if node.requested(name).saturating_add(*wanted) > total {
            reasons.push(format!("Insufficient {name}"));
            is_resolvable &= *wanted <= total;
        }
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Rejection {
        plugin: Plugin::NodeResourcesFit,
        reasons,
        is_resolvable,
    })
}

/// Used fractions of cpu and memory with the pod on the node, in thousandths.
fn used(pod: &PodInfo, facts: &NodeFacts, node: &NodeInfo) -> [Option<i64>; 2] {
    let fraction =
        |used: i64, total: i64| (total > 0).then(|| (used.saturating_mul(1000) / total).min(1000));
    [
        fraction(
            node.weighed.0 + pod.weighed.0,
            facts.allocatable("cpu").millis(),
        ),
        fraction(
            node.weighed.1 + pod.weighed.1,
            facts.allocatable("memory").units(),
        ),
    ]
}

pub(super) fn least_allocated(pod: &PodInfo, nodes: &[(&Arc<NodeFacts>, &NodeInfo)]) -> Vec<i64> {
    let score = |(facts, node): &(&Arc<NodeFacts>, &NodeInfo)| {
        let free: Vec<i64> = used(pod, facts, node)
            .into_iter()
            .flatten()
            .map(|used| 1000 - used)
            .collect();
        let count = i64::try_from(free.len()).unwrap_or(1).max(1);
        free.iter().sum::<i64>() / count * SCORE_MAX / 1000
    };
    nodes.iter().map(score).collect()
}

pub(super) fn balanced(pod: &PodInfo, nodes: &[(&Arc<NodeFacts>, &NodeInfo)]) -> Vec<i64> {
    let score = |(facts, node): &(&Arc<NodeFacts>, &NodeInfo)| match used(pod, facts, node) {
        // Of two values the standard deviation is half their distance.
        [Some(cpu), Some(memory)] => SCORE_MAX - (cpu - memory).abs() / 2 * SCORE_MAX / 1000,
        _ => 0,
    };
    nodes.iter().map(score).collect()
}

//! Taints keep pods away that do not tolerate them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodSpec, Taint};
use semantics::taints::{
    NO_EXECUTE, NO_SCHEDULE, PREFER_NO_SCHEDULE, UNSCHEDULABLE, first_untolerated, is_tolerated,
};

use super::{Plugin, Rejection, normalize};
use crate::node::{NodeFacts, NodeInfo};

/// A node that people closed takes only pods that tolerate that.
pub(super) fn filter_unschedulable(spec: &PodSpec, node: &NodeFacts) -> Result<(), Rejection> {
    let taint = Taint {
        key: UNSCHEDULABLE.into(),
        effect: NO_SCHEDULE.into(),
        ..Taint::default()
    };
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    if node.is_unschedulable && !is_tolerated(tolerations, &taint) {
        return Err(Rejection::final_for_node(
            Plugin::NodeUnschedulable,
            "node(s) were unschedulable",
        ));
    }
    Ok(())
}

pub(super) fn filter(spec: &PodSpec, node: &NodeFacts) -> Result<(), Rejection> {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    match first_untolerated(&node.taints, tolerations, &[NO_SCHEDULE, NO_EXECUTE]) {
        Some(_) => Err(Rejection::final_for_node(
            Plugin::TaintToleration,
            "node(s) had untolerated taint(s)",
        )),
        None => Ok(()),
    }
}

/// The fewer taints a pod would rather avoid, the better.
pub(super) fn score(spec: &PodSpec, nodes: &[(&Arc<NodeFacts>, &NodeInfo)]) -> Vec<i64> {
    let tolerations: Vec<_> = spec
        .tolerations
        .iter()
        .flatten()
        .filter(|one| matches!(one.effect.as_deref(), None | Some("" | PREFER_NO_SCHEDULE)))
        .cloned()
        .collect();
    let avoided = |node: &NodeFacts| {
        let avoided = node
            .taints
            .iter()
            .filter(|taint| taint.effect == PREFER_NO_SCHEDULE);
        avoided
            .filter(|taint| !is_tolerated(&tolerations, taint))
            .count()
    };
    let counts = nodes
        .iter()
        .map(|(facts, _)| i64::try_from(avoided(facts)).unwrap_or(i64::MAX));
    normalize(counts.collect(), true)
}

//! The rules by which nodes are ruled out and compared, one file each.

mod images;
mod node_affinity;
mod pod_affinity;
mod ports;
mod resources;
mod taints;
mod topology_spread;
mod volumes;

use std::sync::Arc;

use k8s_openapi::api::core::v1::PodSpec;

use crate::cluster::Cluster;
use crate::node::{NodeFacts, NodeInfo};
use crate::pod::{PendingPod, PodInfo};
use crate::workloads::Workloads;
pub(crate) use volumes::{ClaimPlan, claim_plans};

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Plugin {
    NodeUnschedulable,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    VolumeBinding,
    PodTopologySpread,
    InterPodAffinity,
}

/// Why a node will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) plugin: Plugin,
    /// In upstream's words, as they stand in events.
    pub(crate) reasons: Vec<String>,
    /// Could removing pods from the node help?
    pub(crate) is_resolvable: bool,
}

impl Rejection {
    fn resolvable(plugin: Plugin, reason: impl Into<String>) -> Self {
        Self {
            plugin,
            reasons: vec![reason.into()],
            is_resolvable: true,
        }
    }

    fn final_for_node(plugin: Plugin, reason: impl Into<String>) -> Self {
        Self {
            plugin,
            reasons: vec![reason.into()],
            is_resolvable: false,
        }
    }
}

/// Everything a decision may look at.
pub(crate) struct Snapshot<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) workloads: &'a Workloads,
}

/// What is worked out once for a pod before nodes are looked at.
pub(crate) struct Prepared {
    spread: topology_spread::Prepared,
    affinity: pod_affinity::Prepared,
    volumes: volumes::Prepared,
}

impl Prepared {
    /// An error rules out every node at once, with the text for the event.
    pub(crate) fn new(pod: &PendingPod, snapshot: &Snapshot<'_>) -> Result<Self, (Plugin, String)> {
        Ok(Self {
            volumes: volumes::prepare(pod, snapshot)?,
            spread: topology_spread::prepare(pod, snapshot),
            affinity: pod_affinity::prepare(&pod.info, snapshot),
        })
    }
}

/// The first rule that rules the node out for the pod.
pub(crate) fn filter(
    pod: &PendingPod,
    prepared: &Prepared,
    facts: &Arc<NodeFacts>,
    node: &NodeInfo,
    snapshot: &Snapshot<'_>,
) -> Result<(), Rejection> {
    taints::filter_unschedulable(&pod.spec, facts)?;
    taints::filter(&pod.spec, facts)?;
    node_affinity::filter(&pod.spec, facts)?;
    ports::filter(&pod.info, node)?;
    resources::filter(&pod.info, facts, node)?;
    prepared.volumes.filter(facts, node)?;
    prepared.spread.filter(&pod.info, facts, node)?;
    prepared.affinity.filter(&pod.info, facts, node, snapshot)
}

/// How good each node is; higher is better.
pub(crate) fn score(
    pod: &PendingPod,
    prepared: &Prepared,
    nodes: &[(&Arc<NodeFacts>, &NodeInfo)],
    snapshot: &Snapshot<'_>,
) -> Vec<i64> {
    let total = snapshot.cluster.nodes().count();
    let parts: [(i64, Vec<i64>); 7] = [
        (3, taints::score(&pod.spec, nodes)),
        (2, node_affinity::score(&pod.spec, nodes)),
        (2, prepared.spread.score(&pod.info, nodes)),
        (2, prepared.affinity.score(&pod.info, nodes, snapshot)),
        (1, resources::least_allocated(&pod.info, nodes)),
        (1, resources::balanced(&pod.info, nodes)),
        (1, images::score(&pod.spec, nodes, total, snapshot)),
    ];
    (0..nodes.len())
        .map(|at| {
            parts
                .iter()
                .map(|(weight, scores)| weight * scores[at])
                .sum()
        })
        .collect()
}

const SCORE_MAX: i64 = 100;

/// Stretches scores to 0…100; `reversed` makes the highest the worst.
fn normalize(scores: Vec<i64>, reversed: bool) -> Vec<i64> {
    let max = scores.iter().copied().max().unwrap_or(0);
    let stretch = |score: i64| if max == 0 { 0 } else { score * SCORE_MAX / max };
    scores
        .into_iter()
        .map(|score| {
            if reversed {
                SCORE_MAX - stretch(score)
            } else {
                stretch(score)
            }
        })
        .collect()
}

/// Images of all containers.
fn images_of(spec: &PodSpec) -> Vec<&str> {
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    containers
        .filter_map(|container| container.image.as_deref())
        .collect()
}

/// Pods of a node that are not on their way out.
fn staying(node: &NodeInfo) -> impl Iterator<Item = &Arc<PodInfo>> {
    node.pods.values().filter(|pod| !pod.is_terminating())
}

//! Where a pod goes, or why it goes nowhere: a pure function of the pod and a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::node::{NodeFacts, NodeInfo};
use crate::plugins::{
    ClaimPlan, Plugin, Prepared, Rejection, Snapshot, claim_plans, filter, score,
};
use crate::pod::PendingPod;
use crate::preemption::{self, Preemption};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Place {
        node: String,
        claims: Vec<ClaimPlan>,
    },
    Wait(Waiting),
}

/// Why a pod has to wait, and what may end that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// In upstream's words, for the condition and the event.
    pub(crate) message: String,
    /// The rules that ruled nodes out; empty: whatever happens may help.
    pub(crate) plugins: BTreeSet<Plugin>,
    pub(crate) preemption: Preemption,
}

/// `chance` chooses among nodes that are equally good.
pub(crate) fn decide(pod: &PendingPod, snapshot: &Snapshot<'_>, chance: u64) -> Decision {
    let total = snapshot.cluster.nodes().count();
    if total == 0 {
        return Decision::Wait(Waiting {
            message: "no nodes available to schedule pods".into(),
            plugins: BTreeSet::new(),
            preemption: Preemption::Impossible {
                clears_nomination: false,
            },
        });
    }
    let prepared = match Prepared::new(pod, snapshot) {
        Ok(prepared) => prepared,
        Err((plugin, why)) => {
            return Decision::Wait(Waiting {
                message: format!(
                    "0/{total} nodes are available: {why}. preemption: 0/{total} nodes are available: {total} Preemption is not helpful for scheduling."
                ),
                plugins: BTreeSet::from([plugin]),
                preemption: Preemption::Impossible {
                    clears_nomination: true,
                },
            });
        }
    };
    if let Some(node) = fitting_nominee(pod, &prepared, snapshot) {
        return node;
    }
    let mut feasible: Vec<(&Arc<NodeFacts>, &NodeInfo)> = Vec::new();
    let mut rejections: BTreeMap<String, Rejection> = BTreeMap::new();
    for (facts, node) in snapshot.cluster.nodes() {
        match fits(pod, &prepared, facts, node, snapshot) {
            Ok(()) => feasible.push((facts, node)),
            Err(rejection) => drop(rejections.insert(facts.index.key.name.clone(), rejection)),
        }
    }
    if feasible.is_empty() {
        return wait(pod, &prepared, &rejections, snapshot);
    }
    let scores = score(pod, &prepared, &feasible, snapshot);
    let best = scores.iter().copied().max().unwrap_or(0);
    let equals: Vec<&Arc<NodeFacts>> = feasible
        .iter()
        .zip(&scores)
        .filter(|(_, score)| **score == best)
        .map(|((facts, _), _)| *facts)
        .collect();
    let count = u64::try_from(equals.len()).unwrap_or(1);
    let chosen = equals[usize::try_from(chance % count).unwrap_or(0)];
    place(&prepared, chosen)
}

fn place(prepared: &Prepared, facts: &NodeFacts) -> Decision {
    Decision::Place {
        node: facts.index.key.name.clone(),
        claims: claim_plans(prepared, facts),
    }
}

/// The node that was cleared for the pod, if it fits there by now.
fn fitting_nominee(
    pod: &PendingPod,
    prepared: &Prepared,
    snapshot: &Snapshot<'_>,
) -> Option<Decision> {
    if pod.nominated_node.is_empty() {
        return None;
    }
    let node = snapshot.cluster.node(&pod.nominated_node)?;
    let facts = node.facts.as_ref()?;
    fits(pod, prepared, facts, node, snapshot)
        .is_ok()
        .then(|| place(prepared, facts))
}

/// Does the pod fit, with and without the more important pods that wait for the node?
pub(crate) fn fits(
    pod: &PendingPod,
    prepared: &Prepared,
    facts: &Arc<NodeFacts>,
    node: &NodeInfo,
    snapshot: &Snapshot<'_>,
) -> Result<(), Rejection> {
    let nominated = snapshot
        .cluster
        .nominated_on(&facts.index.key.name, &pod.info);
    if !nominated.is_empty() {
        let mut with_nominated = node.clone();
        nominated
            .into_iter()
            .for_each(|pod| with_nominated.add(pod));
        filter(pod, prepared, facts, &with_nominated, snapshot)?;
    }
    filter(pod, prepared, facts, node, snapshot)
}

fn wait(
    pod: &PendingPod,
    prepared: &Prepared,
    rejections: &BTreeMap<String, Rejection>,
    snapshot: &Snapshot<'_>,
) -> Decision {
    let reasons = rejections
        .values()
        .flat_map(|rejection| rejection.reasons.iter().cloned());
    let preemption = preemption::find(pod, prepared, rejections, snapshot);
    let mut message = histogram(rejections.len(), reasons);
    if let Some(why_not) = &preemption.1 {
        message = format!("{message} preemption: {why_not}");
    }
    Decision::Wait(Waiting {
        message,
        plugins: rejections
            .values()
            .map(|rejection| rejection.plugin)
            .collect(),
        preemption: preemption.0,
    })
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
pub(crate) fn histogram(nodes: usize, reasons: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_insert(0) += 1;
    }
    let mut texts: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    texts.sort();
    format!("0/{nodes} nodes are available: {}.", texts.join(", "))
}

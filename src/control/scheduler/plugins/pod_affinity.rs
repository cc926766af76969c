//! Pods that want to be near, or far from, other pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use semantics::node_affinity::NodeLabels as _;

use super::{Plugin, Rejection, SCORE_MAX, Snapshot};
use crate::node::{NodeFacts, NodeInfo};
use crate::pod::{AffinityTerm, PodInfo};

/// What a pod that requires another's neighbourhood is worth when that other is placed.
const REQUIRED_WEIGHT: i64 = 1;

/// A topology key and a value of it.
type Domain = (String, String);

pub(super) struct Prepared {
    /// Domains with pods that match every required term, per term.
    wanted: Vec<BTreeMap<Domain, usize>>,
    /// Does any pod anywhere match all terms? Else the first of a group could never start.
    is_anywhere: bool,
    matches_itself: bool,
}

pub(super) fn prepare(pod: &PodInfo, snapshot: &Snapshot<'_>) -> Prepared {
    let namespaces = |name: &str| snapshot.workloads.namespace_labels(name);
    let terms = &pod.affinity.required;
    let mut wanted: Vec<BTreeMap<Domain, usize>> = vec![BTreeMap::new(); terms.len()];
    if !terms.is_empty() {
        for (facts, node) in snapshot.cluster.nodes() {
            // A pod counts only if it matches all terms, as upstream counts.
            let matching = node.pods.values();
            let count = matching
                .filter(|other| terms.iter().all(|term| term.matches(other, &namespaces)))
                .count();
            for (term, domains) in terms.iter().zip(&mut wanted) {
                if let (Some(domain), true) = (domain(term, facts), count > 0) {
                    *domains.entry(domain).or_insert(0) += count;
                }
            }
        }
    }
    Prepared {
        is_anywhere: wanted.iter().any(|domains| !domains.is_empty()),
        matches_itself: terms.iter().all(|term| term.matches(pod, &namespaces)),
        wanted,
    }
}

fn domain(term: &AffinityTerm, facts: &NodeFacts) -> Option<Domain> {
    facts
        .label(&term.topology_key)
        .map(|value| (term.topology_key.clone(), value.to_owned()))
}

impl Prepared {
    pub(super) fn filter(
        &self,
        pod: &PodInfo,
        facts: &NodeFacts,
        node: &NodeInfo,
        snapshot: &Snapshot<'_>,
    ) -> Result<(), Rejection> {
        if !self.is_near(pod, facts) {
            let reason = "node(s) didn't match pod affinity rules";
            return Err(Rejection::final_for_node(Plugin::InterPodAffinity, reason));
        }
        let namespaces = |name: &str| snapshot.workloads.namespace_labels(name);
        let repels = |term: &AffinityTerm| {
            let mut others = in_domain(term, facts, node, snapshot);
            others.any(|other| other.key() != pod.key() && term.matches(other, &namespaces))
        };
        if pod.anti_affinity.required.iter().any(repels) {
            let reason = "node(s) didn't match pod anti-affinity rules";
            return Err(Rejection::resolvable(Plugin::InterPodAffinity, reason));
        }
        if is_repelled(pod, facts, node, snapshot) {
            let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Rejection::resolvable(Plugin::InterPodAffinity, reason));
        }
        Ok(())
    }

    fn is_near(&self, pod: &PodInfo, facts: &NodeFacts) -> bool {
        let terms = &pod.affinity.required;
        let has_keys = terms
            .iter()
            .all(|term| facts.label(&term.topology_key).is_some());
        let near = |(term, domains): (&AffinityTerm, &BTreeMap<Domain, usize>)| {
            domain(term, facts).is_some_and(|domain| domains.contains_key(&domain))
        };
        terms.is_empty()
            || (has_keys
                && (terms.iter().zip(&self.wanted).all(near)
                    || (!self.is_anywhere && self.matches_itself)))
    }

    pub(super) fn score(
        &self,
        pod: &PodInfo,
        nodes: &[(&Arc<NodeFacts>, &NodeInfo)],
        snapshot: &Snapshot<'_>,
    ) -> Vec<i64> {
        let weights = weights(pod, snapshot);
        let score = |facts: &NodeFacts| -> i64 {
            let worth = weights
                .iter()
                .filter(|((key, value), _)| facts.label(key) == Some(value));
            worth.map(|(_, weight)| weight).sum()
        };
        let raw: Vec<i64> = nodes.iter().map(|(facts, _)| score(facts)).collect();
        let (min, max) = (
            raw.iter().copied().min().unwrap_or(0),
            raw.iter().copied().max().unwrap_or(0),
        );
        let stretch = |score: i64| {
            if max == min {
                0
            } else {
                (score - min) * SCORE_MAX / (max - min)
            }
        };
        raw.into_iter().map(stretch).collect()
    }
}

/// Pods in the domain of a node, the node itself as it is given.
fn in_domain<'a>(
    term: &'a AffinityTerm,
    facts: &'a NodeFacts,
    node: &'a NodeInfo,
    snapshot: &'a Snapshot<'_>,
) -> impl Iterator<Item = &'a Arc<PodInfo>> {
    let value = facts.label(&term.topology_key);
    let others = snapshot.cluster.nodes().filter(move |(other, _)| {
        value.is_some()
            && other.label(&term.topology_key) == value
            && other.index.key != facts.index.key
    });
    let own = value.is_some().then_some(node);
    own.into_iter()
        .chain(others.map(|(_, node)| node))
        .flat_map(|node| node.pods.values())
}

/// Does a pod that is there already keep this one away?
fn is_repelled(pod: &PodInfo, facts: &NodeFacts, node: &NodeInfo, snapshot: &Snapshot<'_>) -> bool {
    let namespaces = |name: &str| snapshot.workloads.namespace_labels(name);
    let others = snapshot.cluster.nodes().map(|(other, info)| {
        if other.index.key == facts.index.key {
            (&**other, node)
        } else {
            (&**other, info)
        }
    });
    let mut repelling =
        others.flat_map(|(other, info)| info.pods.values().map(move |pod| (other, pod)));
    repelling.any(|(other, existing)| {
        existing.key() != pod.key()
            && existing.anti_affinity.required.iter().any(|term| {
                let shared = other.label(&term.topology_key);
                shared.is_some()
                    && shared == facts.label(&term.topology_key)
                    && term.matches(pod, &namespaces)
            })
    })
}

/// What each domain is worth: by the pod's own wishes, and by those of pods that are there.
fn weights(pod: &PodInfo, snapshot: &Snapshot<'_>) -> BTreeMap<Domain, i64> {
    let namespaces = |name: &str| snapshot.workloads.namespace_labels(name);
    let mut weights: BTreeMap<Domain, i64> = BTreeMap::new();
    for (facts, node) in snapshot.cluster.nodes() {
        let mut add = |term: &AffinityTerm, weight: i64| {
            if let Some(domain) = domain(term, facts) {
                *weights.entry(domain).or_insert(0) += weight;
            }
        };
        for other in node.pods.values() {
            for (weight, term) in pod
                .affinity
                .preferred
                .iter()
                .filter(|(_, term)| term.matches(other, &namespaces))
            {
                add(term, *weight);
            }
            for (weight, term) in pod
                .anti_affinity
                .preferred
                .iter()
                .filter(|(_, term)| term.matches(other, &namespaces))
            {
                add(term, -weight);
            }
            for term in other
                .affinity
                .required
                .iter()
                .filter(|term| term.matches(pod, &namespaces))
            {
                add(term, REQUIRED_WEIGHT);
            }
            for (weight, term) in other
                .affinity
                .preferred
                .iter()
                .filter(|(_, term)| term.matches(pod, &namespaces))
            {
                add(term, *weight);
            }
            for (weight, term) in other
                .anti_affinity
                .preferred
                .iter()
                .filter(|(_, term)| term.matches(pod, &namespaces))
            {
                add(term, -weight);
            }
        }
    }
    weights
}

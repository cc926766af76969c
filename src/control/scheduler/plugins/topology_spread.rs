//! Pods of one kind are spread evenly over nodes, zones and other topologies.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{LabelSelector, ObjectIndex};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use semantics::node_affinity::{NodeLabels as _, required_matches};
use semantics::selectors::label_selector;
use semantics::taints::{NO_EXECUTE, NO_SCHEDULE, first_untolerated};

use super::{Plugin, Rejection, SCORE_MAX, Snapshot, staying};
use crate::node::{NodeFacts, NodeInfo};
use crate::pod::{PendingPod, PodInfo, labels_of, spread_constraints};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A constraint with what is counted for it.
struct Constraint {
    max_skew: i64,
    topology_key: String,
    /// All of them must match.
    selectors: Vec<LabelSelector>,
    min_domains: i64,
    /// Matching pods in each domain of eligible nodes.
    counts: BTreeMap<String, i64>,
}

pub(super) struct Prepared {
    required: Vec<Constraint>,
    preferred: Vec<Constraint>,
    namespace: String,
}

impl Constraint {
    fn matches(&self, pod: &ObjectIndex) -> bool {
        self.selectors
            .iter()
            .all(|selector| selector.matches_with(|key| pod.label(key)))
    }

    fn matching(&self, namespace: &str, node: &NodeInfo) -> i64 {
        let pods = staying(node)
            .filter(|pod| pod.index.key.namespace == namespace && self.matches(&pod.index));
        i64::try_from(pods.count()).unwrap_or(i64::MAX)
    }

    fn least(&self) -> i64 {
        let domains = i64::try_from(self.counts.len()).unwrap_or(i64::MAX);
        if domains < self.min_domains {
            0
        } else {
            self.counts.values().copied().min().unwrap_or(0)
        }
    }
}

pub(super) fn prepare(pod: &PendingPod, snapshot: &Snapshot<'_>) -> Prepared {
    let namespace = pod.info.index.key.namespace.clone();
    let stated = spread_constraints(&pod.spec);
    let of = |when: &str| -> Vec<Constraint> {
        let chosen: Vec<&TopologySpreadConstraint> = stated
            .iter()
            .filter(|constraint| constraint.when_unsatisfiable == when)
            .collect();
        let keys: Vec<&str> = chosen
            .iter()
            .map(|constraint| constraint.topology_key.as_str())
            .collect();
        chosen
            .iter()
            .map(|constraint| {
                let is_eligible = |facts: &NodeFacts| {
                    keys.iter().all(|key| facts.label(key).is_some())
                        && is_included(pod, constraint, facts)
                };
                let bare = bare(constraint, &pod.info.index);
                counted(bare, &namespace, snapshot, &is_eligible)
            })
            .collect()
    };
    let required = of("DoNotSchedule");
    let mut preferred = of("ScheduleAnyway");
    if stated.is_empty() {
        preferred = defaults(pod, &namespace, snapshot);
    }
    Prepared {
        required,
        preferred,
        namespace,
    }
}

fn bare(constraint: &TopologySpreadConstraint, pod: &ObjectIndex) -> Constraint {
    let mut selectors = vec![
        label_selector(constraint.label_selector.as_ref())
            .unwrap_or_else(|_| LabelSelector::nothing()),
    ];
    let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
    let labels = labels_of(pod, keys);
    if !labels.is_empty() {
        let labels = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        selectors.push(LabelSelector::from_labels(labels));
    }
    Constraint {
        max_skew: i64::from(constraint.max_skew),
        topology_key: constraint.topology_key.clone(),
        selectors,
        min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
        counts: BTreeMap::new(),
    }
}

/// Without constraints of its own, a pod is spread from others of its service and workload, over hosts and zones.
fn defaults(pod: &PendingPod, namespace: &str, snapshot: &Snapshot<'_>) -> Vec<Constraint> {
    let selectors = snapshot.workloads.selectors_of(&pod.info.index);
    if selectors.is_empty() {
        return Vec::new();
    }
    let constraint = |(topology_key, max_skew): (&str, i64)| {
        let bare = Constraint {
            max_skew,
            topology_key: topology_key.to_owned(),
            selectors: selectors.clone(),
            min_domains: 1,
            counts: BTreeMap::new(),
        };
        counted(bare, namespace, snapshot, &|facts| {
            required_matches(&pod.spec, facts)
        })
    };
    [(HOSTNAME, 3), (ZONE, 5)]
        .map(constraint)
        .into_iter()
        .filter(|one| !one.counts.is_empty())
        .collect()
}

fn counted(
    mut constraint: Constraint,
    namespace: &str,
    snapshot: &Snapshot<'_>,
    is_eligible: &dyn Fn(&NodeFacts) -> bool,
) -> Constraint {
    for (facts, node) in snapshot
        .cluster
        .nodes()
        .filter(|(facts, _)| is_eligible(facts))
    {
        if let Some(domain) = facts.label(&constraint.topology_key) {
            let count = constraint.matching(namespace, node);
            *constraint.counts.entry(domain.to_owned()).or_insert(0) += count;
        }
    }
    constraint
}

/// Does the constraint count this node, by its policies on affinity and taints?
fn is_included(pod: &PendingPod, constraint: &TopologySpreadConstraint, node: &NodeFacts) -> bool {
    let honours_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let honours_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    let tolerations = pod.spec.tolerations.as_deref().unwrap_or_default();
    (!honours_affinity || required_matches(&pod.spec, node))
        && (!honours_taints
            || first_untolerated(&node.taints, tolerations, &[NO_SCHEDULE, NO_EXECUTE]).is_none())
}

impl Prepared {
    pub(super) fn filter(
        &self,
        pod: &PodInfo,
        facts: &NodeFacts,
        node: &NodeInfo,
    ) -> Result<(), Rejection> {
        const REASON: &str = "node(s) didn't match pod topology spread constraints";
        for constraint in &self.required {
            let Some(domain) = facts.label(&constraint.topology_key) else {
                let reason = format!("{REASON} (missing required label)");
                return Err(Rejection::final_for_node(Plugin::PodTopologySpread, reason));
            };
            // The node may differ from the snapshot by victims taken away or nominees added.
            let counted = constraint.counts.get(domain).copied().unwrap_or(0);
            let own = i64::from(constraint.matches(&pod.index));
            let count = self.adjusted(constraint, counted, node) + own;
            if count - constraint.least() > constraint.max_skew {
                return Err(Rejection::resolvable(Plugin::PodTopologySpread, REASON));
            }
        }
        Ok(())
    }

    /// A domain's count when it is this one node with other pods on it than were counted.
    fn adjusted(&self, constraint: &Constraint, counted: i64, node: &NodeInfo) -> i64 {
        if constraint.topology_key == HOSTNAME {
            constraint.matching(&self.namespace, node)
        } else {
            counted
        }
    }

    pub(super) fn score(&self, _pod: &PodInfo, nodes: &[(&Arc<NodeFacts>, &NodeInfo)]) -> Vec<i64> {
        if self.preferred.is_empty() {
            return vec![0; nodes.len()];
        }
        let raw = nodes
            .iter()
            .map(|(facts, node)| self.raw_score(facts, node))
            .collect::<Vec<_>>();
        let max = raw.iter().copied().fold(0.0_f64, f64::max);
        let min = raw.iter().copied().fold(f64::MAX, f64::min);
        let score = |score: f64| {
            let stretched = if max == 0.0 {
                1.0
            } else {
                (max + min - score) / max
            };
            to_score(stretched)
        };
        raw.into_iter().map(score).collect()
    }

    /// The more alike pods there are in a node's domains, the higher.
    fn raw_score(&self, facts: &NodeFacts, node: &NodeInfo) -> f64 {
        let part = |constraint: &Constraint| {
            let domain = facts.label(&constraint.topology_key)?;
            let counted = constraint.counts.get(domain).copied().unwrap_or(0);
            let count = self.adjusted(constraint, counted, node);
            let size = f64::from(u32::try_from(constraint.counts.len()).unwrap_or(u32::MAX));
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            let skew = f64::from(u32::try_from(constraint.max_skew - 1).unwrap_or(0));
            // More domains weigh more: being even over two zones is easier than over a hundred hosts.
            Some(count * (size + 2.0).ln() + skew)
        };
        self.preferred.iter().filter_map(part).sum()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the value is between 0 and 100"
)]
fn to_score(stretched: f64) -> i64 {
    (stretched.clamp(0.0, 1.0) * f64::from(u32::try_from(SCORE_MAX).unwrap_or(100))) as i64
}

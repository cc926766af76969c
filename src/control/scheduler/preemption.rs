//! Which less important pods to remove so that a pod fits: as few as possible, the least important, on one node.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::LabelSelector;
use env::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use semantics::selectors::label_selector;

use crate::decision::{fits, histogram};
use crate::node::{NodeFacts, NodeInfo};
use crate::plugins::{Prepared, Rejection, Snapshot};
use crate::pod::{PendingPod, PodInfo};

#[derive(Clone, Debug)]
pub(crate) enum Preemption {
    /// Remove these and wait for the node.
    Remove {
        node: String,
        victims: Vec<Arc<PodInfo>>,
    },
    /// The pod may still hope for the node it waits for, or not.
    Impossible { clears_nomination: bool },
}

impl PartialEq for Preemption {
    fn eq(&self, other: &Self) -> bool {
        let keys = |victims: &[Arc<PodInfo>]| -> Vec<_> {
            victims.iter().map(|pod| pod.key().clone()).collect()
        };
        match (self, other) {
            (
                Self::Remove { node, victims },
                Self::Remove {
                    node: other,
                    victims: others,
                },
            ) => node == other && keys(victims) == keys(others),
            (
                Self::Impossible { clears_nomination },
                Self::Impossible {
                    clears_nomination: other,
                },
            ) => clears_nomination == other,
            _ => false,
        }
    }
}

impl Eq for Preemption {}

struct Candidate {
    node: String,
    victims: Vec<Arc<PodInfo>>,
    /// Victims whose disruption budgets are used up.
    violations: usize,
}

/// What to remove, or why removing does not help, in upstream's words.
pub(crate) fn find(
    pod: &PendingPod,
    prepared: &Prepared,
    rejections: &BTreeMap<String, Rejection>,
    snapshot: &Snapshot<'_>,
) -> (Preemption, Option<String>) {
    if pod.spec.preemption_policy.as_deref() == Some("Never") {
        let why = "not eligible due to preemptionPolicy=Never.".to_owned();
        return (
            Preemption::Impossible {
                clears_nomination: true,
            },
            Some(why),
        );
    }
    if is_being_cleared(pod, rejections, snapshot) {
        let why = "not eligible due to a terminating pod on the nominated node.".to_owned();
        return (
            Preemption::Impossible {
                clears_nomination: false,
            },
            Some(why),
        );
    }
    let mut budgets = Budgets::read(snapshot);
    let mut candidates = Vec::new();
    let mut why = Vec::new();
    for (name, rejection) in rejections {
        let node = snapshot.cluster.node(name);
        let Some((node, facts)) = node.and_then(|node| Some((node, node.facts.as_ref()?))) else {
            continue;
        };
        if !rejection.is_resolvable {
            why.push("Preemption is not helpful for scheduling".to_owned());
            continue;
        }
        match victims_on(pod, prepared, facts, node, snapshot, &mut budgets) {
            Some(candidate) => candidates.push(candidate),
            None => why.push("No preemption victims found for incoming pod".to_owned()),
        }
    }
    if let Some(best) = candidates.into_iter().min_by_key(Candidate::cost) {
        (
            Preemption::Remove {
                node: best.node,
                victims: best.victims,
            },
            None,
        )
    } else {
        let why = histogram(rejections.len(), why.into_iter());
        (
            Preemption::Impossible {
                clears_nomination: true,
            },
            Some(why),
        )
    }
}

/// Are victims still leaving the node that the pod waits for?
fn is_being_cleared(
    pod: &PendingPod,
    rejections: &BTreeMap<String, Rejection>,
    snapshot: &Snapshot<'_>,
) -> bool {
    let is_hopeful = rejections
        .get(&pod.nominated_node)
        .is_some_and(|rejection| rejection.is_resolvable);
    let node = snapshot
        .cluster
        .node(&pod.nominated_node)
        .filter(|_| is_hopeful);
    node.is_some_and(|node| {
        node.pods
            .values()
            .any(|other| other.is_terminating() && other.priority < pod.info.priority)
    })
}

/// The least that has to leave the node.
fn victims_on(
    pod: &PendingPod,
    prepared: &Prepared,
    facts: &Arc<NodeFacts>,
    node: &NodeInfo,
    snapshot: &Snapshot<'_>,
    budgets: &mut Budgets,
) -> Option<Candidate> {
    let mut lower: Vec<Arc<PodInfo>> = node
        .pods
        .values()
        .filter(|other| other.priority < pod.info.priority)
        .map(Arc::clone)
        .collect();
    if lower.is_empty() {
        return None;
    }
    let mut cleared = node.clone();
    for other in &lower {
        cleared.remove(other.key());
    }
    fits(pod, prepared, facts, &cleared, snapshot).ok()?;
    // The most important first, so that they are the first to be spared; those with used-up budgets before all.
    lower.sort_by_key(|other| {
        (
            Reverse(other.priority),
            other.started.unwrap_or(Timestamp::UNIX_EPOCH),
        )
    });
    let violating = budgets.violating(&lower);
    let (protected, free): (Vec<_>, Vec<_>) = lower
        .into_iter()
        .partition(|other| violating.contains(other.key()));
    let mut victims = Vec::new();
    let mut violations = 0;
    for (other, is_protected) in protected
        .into_iter()
        .map(|pod| (pod, true))
        .chain(free.into_iter().map(|pod| (pod, false)))
    {
        cleared.add(Arc::clone(&other));
        if fits(pod, prepared, facts, &cleared, snapshot).is_err() {
            cleared.remove(other.key());
            violations += usize::from(is_protected);
            victims.push(other);
        }
    }
    (!victims.is_empty()).then(|| Candidate {
        node: facts.index.key.name.clone(),
        victims,
        violations,
    })
}

impl Candidate {
    /// Fewest violations, then the least important victims, then the fewest, then those that started last.
    fn cost(&self) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
        let highest = self
            .victims
            .iter()
            .map(|pod| pod.priority)
            .max()
            .unwrap_or(i32::MIN);
        // Shifted so that more victims always weigh more, also with negative priorities.
        let sum = self
            .victims
            .iter()
            .map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1)
            .sum();
        let top = self.victims.iter().filter(|pod| pod.priority == highest);
        let started = top
            .filter_map(|pod| pod.started)
            .min()
            .unwrap_or(Timestamp::UNIX_EPOCH);
        (
            self.violations,
            highest,
            sum,
            self.victims.len(),
            Reverse(started),
        )
    }
}

/// Disruption budgets, as far as preemption looks at them.
struct Budgets(Vec<(String, LabelSelector, i32)>);

impl Budgets {
    fn read(snapshot: &Snapshot<'_>) -> Self {
        let budgets = snapshot.workloads.budgets.list();
        let budget = |stored: &apimachinery::StoredObject| {
            let budget: PodDisruptionBudget = stored.decode().ok()?;
            let selector = label_selector(budget.spec?.selector.as_ref()).ok()?;
            let allowed = budget
                .status
                .and_then(|status| status.disruptions_allowed)
                .unwrap_or(0);
            Some((stored.key().namespace.clone(), selector, allowed))
        };
        Self(budgets.iter().filter_map(budget).collect())
    }

    /// Those of these pods whose removal a budget does not allow any more.
    fn violating(&self, pods: &[Arc<PodInfo>]) -> Vec<apimachinery::ObjectKey> {
        let mut left: Vec<i32> = self.0.iter().map(|(_, _, allowed)| *allowed).collect();
        let mut violating = Vec::new();
        for pod in pods {
            let mut is_violating = false;
            for ((namespace, selector, _), left) in self.0.iter().zip(&mut left) {
                let is_covered = *namespace == pod.index.key.namespace
                    && !selector.is_everything()
                    && selector.matches_with(|key| pod.index.label(key));
                if is_covered {
                    *left -= 1;
                    is_violating |= *left < 0;
                }
            }
            if is_violating {
                violating.push(pod.key().clone());
            }
        }
        violating
    }
}

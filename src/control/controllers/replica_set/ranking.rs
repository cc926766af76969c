//! Which pods to give up first when there are too many.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use env::Timestamp;

use crate::pods::PodFacts;

/// Orders pods so that those to be removed come first: the least far on, the cheapest, the most crowded, the youngest.
pub(super) fn by_deletion(
    one: &PodFacts,
    other: &PodFacts,
    related_on_node: &BTreeMap<String, usize>,
    now: Timestamp,
) -> Ordering {
    let crowd = |pod: &PodFacts| related_on_node.get(&pod.node_name).copied().unwrap_or(0);
    // False sorts before true: unassigned, then not ready.
    let assigned = |pod: &PodFacts| !pod.node_name.is_empty();
    assigned(one)
        .cmp(&assigned(other))
        .then_with(|| one.phase.cmp(&other.phase))
        .then_with(|| one.is_ready.cmp(&other.is_ready))
        .then_with(|| one.deletion_cost.cmp(&other.deletion_cost))
        .then_with(|| crowd(other).cmp(&crowd(one)))
        .then_with(|| by_ready_time(one, other, now))
        .then_with(|| other.restarts.cmp(&one.restarts))
        .then_with(|| by_age(one.created, other.created, one, other, now))
}

fn by_ready_time(one: &PodFacts, other: &PodFacts, now: Timestamp) -> Ordering {
    if !one.is_ready || !other.is_ready {
        return Ordering::Equal;
    }
    by_age(one.ready_changed, other.ready_changed, one, other, now)
}

/// Younger first, on a logarithmic scale; pods of about the same age are ordered by uid, as good as by chance.
fn by_age(
    one: Option<Timestamp>,
    other: Option<Timestamp>,
    one_pod: &PodFacts,
    other_pod: &PodFacts,
    now: Timestamp,
) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) if one == other => Ordering::Equal,
        (Some(one), Some(other)) => {
            let magnitude = |time: Timestamp| now.saturating_since(time).as_nanos().checked_ilog2();
            magnitude(one)
                .cmp(&magnitude(other))
                .then_with(|| one_pod.index.uid.cmp(&other_pod.index.uid))
        }
        // A missing time counts as the youngest.
        (one, other) => one.is_some().cmp(&other.is_some()),
    }
}

//! One step of a rollout: how much to move from the old sets to the new one.

use super::draft::{Drafted, available, total};
use super::proportions::Limits;
use super::{Spec, View};

/// Grows or shrinks the new set as far as the surge allows. True if its size changes.
pub(super) fn move_new_set(spec: &Spec, limits: &Limits, sets: &mut [Drafted], new: usize) -> bool {
    let current = sets[new].replicas;
    let wanted = match current.cmp(&limits.replicas) {
        std::cmp::Ordering::Equal => return false,
        std::cmp::Ordering::Greater => limits.replicas,
        std::cmp::Ordering::Less => limits.new_set_size(spec, total(sets), current),
    };
    sets[new].scale(wanted, limits)
}

/// Shrinks old sets as far as availability allows: first pods that are not available anyway. True if a size changes.
pub(super) fn move_old_sets(limits: &Limits, sets: &mut [Drafted], new: usize) -> bool {
    let old = old_by_age(sets, new);
    if old.iter().map(|at| sets[*at].replicas).sum::<i32>() == 0 {
        return false;
    }
    let new_unavailable = sets[new].replicas - sets[new].set.status.available_replicas;
    let most = total(sets) - limits.min_available() - new_unavailable;
    if most <= 0 {
        return false;
    }
    let mut removed = 0;
    for at in &old {
        let set = &mut sets[*at];
        let unhealthy = (set.replicas - set.set.status.available_replicas)
            .max(0)
            .min(most - removed);
        removed += unhealthy;
        set.scale(set.replicas - unhealthy, limits);
    }
    let mut surplus = available(sets) - limits.min_available();
    for at in &old {
        let set = &mut sets[*at];
        let step = set.replicas.min(surplus).max(0);
        surplus -= step;
        removed += step;
        set.scale(set.replicas - step, limits);
    }
    removed > 0
}

/// Empties every old set at once. True if a size changes.
pub(super) fn empty_old_sets(limits: &Limits, sets: &mut [Drafted], new: Option<usize>) -> bool {
    let mut is_changed = false;
    for (at, set) in sets.iter_mut().enumerate() {
        if Some(at) != new {
            is_changed |= set.scale(0, limits);
        }
    }
    is_changed
}

/// Has any pod of another set not finished?
pub(super) fn old_pods_run(sets: &[Drafted], new: Option<usize>) -> bool {
    let old = sets.iter().enumerate().filter(|(at, _)| Some(*at) != new);
    old.map(|(_, set)| set)
        .any(|set| set.set.status.replicas > 0 || set.set.unfinished_pods > 0)
}

/// Old sets beyond the history limit that have no pods left, oldest revision first.
pub(super) fn expired<'a>(
    view: &View,
    sets: &'a [Drafted],
    new: Option<usize>,
) -> Vec<&'a Drafted> {
    let limit = view
        .spec
        .revision_history_limit
        .filter(|limit| *limit != i32::MAX);
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
        return Vec::new();
    };
    let old = sets
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != new)
        .map(|(_, set)| set);
    let mut old: Vec<&Drafted> = old.filter(|set| !set.set.index.is_being_deleted).collect();
    old.sort_by(|one, other| {
        let revision = |set: &Drafted| super::revision::revision_of(&set.annotations);
        let age = |set: &&Drafted| (set.set.created.clone(), set.name().to_owned());
        revision(one)
            .cmp(&revision(other))
            .then_with(|| age(one).cmp(&age(other)))
    });
    let surplus = old.len().saturating_sub(limit);
    let is_empty = |set: &&Drafted| {
        set.set.status.replicas == 0
            && set.replicas == 0
            && set.set.replicas == 0
            && set.set.index.generation <= set.set.status.observed_generation
    };
    old.into_iter().take(surplus).filter(is_empty).collect()
}

fn old_by_age(sets: &[Drafted], new: usize) -> Vec<usize> {
    let mut old: Vec<usize> = (0..sets.len()).filter(|at| *at != new).collect();
    old.sort_by(|one, other| {
        let age = |at: usize| (&sets[at].set.created, sets[at].name());
        age(*one).cmp(&age(*other))
    });
    old
}

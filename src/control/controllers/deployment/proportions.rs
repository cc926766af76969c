//! How far a rollout may go above and below the wanted size, and how a change of size is shared among sets.

use semantics::int_or_percent::{Rounding, scaled};

use super::draft::{Drafted, round};
use super::revision::MAX_REPLICAS;
use super::{Spec, View};

/// The numbers a strategy allows, for the deployment's size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) replicas: i32,
    pub(super) max_surge: i32,
    pub(super) max_unavailable: i32,
}

impl Limits {
    pub(super) fn of(spec: &Spec) -> Self {
        let replicas = spec.replicas();
        if !spec.is_rolling() {
            return Self {
                replicas,
                max_surge: 0,
                max_unavailable: 0,
            };
        }
        let rolling = spec.strategy.rolling_update.as_ref();
        let max_surge = scaled(
            rolling.and_then(|rolling| rolling.max_surge.as_ref()),
            replicas,
            Rounding::Up,
        );
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let mut max_unavailable = scaled(unavailable, replicas, Rounding::Down);
        // Both at zero, which rounding can bring about, would stand still.
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Self {
            replicas,
            max_surge,
            max_unavailable: max_unavailable.min(replicas),
        }
    }

    pub(super) fn min_available(&self) -> i32 {
        self.replicas - self.max_unavailable
    }

    /// How large the new set may be, given the total of all sets.
    pub(super) fn new_set_size(&self, spec: &Spec, total: i32, current: i32) -> i32 {
        if !spec.is_rolling() {
            return self.replicas;
        }
        let room = self.replicas + self.max_surge - total;
        if room <= 0 {
            current
        } else {
            current + room.min(self.replicas - current)
        }
    }
}

/// Shares a change of the deployment's size among its active sets in proportion to their sizes.
pub(super) fn scale_in_proportion(view: &View, limits: &Limits, sets: &mut [&mut Drafted]) {
    let total: i32 = sets.iter().map(|set| set.replicas).sum();
    let allowed = if limits.replicas > 0 {
        limits.replicas + limits.max_surge
    } else {
        0
    };
    let to_add = allowed - total;
    // The largest first, so that what rounding leaves over goes where it weighs least.
    sets.sort_by(|one, other| {
        let by_size = other.replicas.cmp(&one.replicas);
        let by_age = (&one.set.created, one.name()).cmp(&(&other.set.created, other.name()));
        by_size.then(if to_add > 0 { by_age.reverse() } else { by_age })
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(sets.len());
    for set in sets.iter() {
        let share = share(view, limits, set, to_add, added);
        added += share;
        sizes.push(set.replicas + share);
    }
    if let Some(first) = sizes.first_mut().filter(|_| to_add != 0) {
        *first = (*first + to_add - added).max(0);
    }
    for (set, size) in sets.iter_mut().zip(sizes) {
        set.scale(size, limits);
        // Also a set that keeps its size must know what it is a share of.
        set.annotate(limits);
    }
}

fn share(view: &View, limits: &Limits, set: &Drafted, to_add: i32, added: i32) -> i32 {
    if set.replicas == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(view, limits, set);
    let left = to_add - added;
    if to_add > 0 {
        fraction.min(left)
    } else {
        fraction.max(left)
    }
}

fn fraction(view: &View, limits: &Limits, set: &Drafted) -> i32 {
    if limits.replicas == 0 {
        return -set.replicas;
    }
    let annotated = set
        .annotations
        .get(MAX_REPLICAS)
        .and_then(|max| max.parse::<u32>().ok());
    let before = annotated
        .and_then(|max| i32::try_from(max).ok())
        .filter(|max| *max > 0);
    let before = before.unwrap_or(view.status.replicas);
    if before == 0 {
        return 0;
    }
    let after = f64::from(limits.replicas + limits.max_surge);
    round(f64::from(set.replicas) * after / f64::from(before)) - set.replicas
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "sizes of deployments are far below 2^31"
)]
pub(super) fn number(value: f64) -> i32 {
    value as i32
}

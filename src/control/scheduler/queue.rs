//! Pods that wait for a node: the most important and longest waiting first, those that fit nowhere only when something may help them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use apimachinery::ObjectKey;

use crate::happening::Happening;
use crate::plugins::Plugin;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod that nothing seemed to help is tried again after this time all the same.
const WAIT_MAX: Duration = Duration::from_mins(5);

type Rank = (Reverse<i32>, u64);

/// Bounded by the number of pods without a node.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: BTreeMap<ObjectKey, Entry>,
    active: BTreeSet<(Rank, ObjectKey)>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry {
    uid: String,
    rank: Rank,
    attempts: u32,
    /// When it may be tried again, if it failed before.
    backoff_until: Duration,
    place: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// Tried again when the backoff is over.
    Backoff,
    /// Until something helps one of these rules; empty: anything does.
    Waiting {
        plugins: BTreeSet<Plugin>,
        since: Duration,
    },
    /// Being bound.
    InFlight,
}

impl Queue {
    /// A pod is there; one that is known keeps its place.
    pub(crate) fn add(&mut self, key: &ObjectKey, uid: &str, priority: i32) {
        if let Some(known) = self.entries.get_mut(key).filter(|known| known.uid == uid) {
            if known.rank.0 == Reverse(priority) {
                return;
            }
            let is_active = self.active.remove(&(known.rank, key.clone()));
            known.rank.0 = Reverse(priority);
            if is_active {
                self.active.insert((known.rank, key.clone()));
            }
            return;
        }
        self.remove(key);
        self.sequence += 1;
        let rank = (Reverse(priority), self.sequence);
        let entry = Entry {
            uid: uid.to_owned(),
            rank,
            attempts: 0,
            backoff_until: Duration::ZERO,
            place: Place::Active,
        };
        self.entries.insert(key.clone(), entry);
        self.active.insert((rank, key.clone()));
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.active.remove(&(entry.rank, key.clone()));
        }
    }

    pub(crate) fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// The next pod to be decided about.
    pub(crate) fn pop(&mut self) -> Option<ObjectKey> {
        let (_, key) = self.active.pop_first()?;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.place = Place::InFlight;
            entry.attempts += 1;
        }
        Some(key)
    }

    /// It fits nowhere; it waits until something may help.
    pub(crate) fn wait(&mut self, key: &ObjectKey, plugins: BTreeSet<Plugin>, now: Duration) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.backoff_until = now + backoff(entry.attempts);
            entry.place = Place::Waiting {
                plugins,
                since: now,
            };
        }
    }

    /// Something went wrong that had nothing to do with where it fits.
    pub(crate) fn retry(&mut self, key: &ObjectKey, now: Duration) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.backoff_until = now + backoff(entry.attempts);
            entry.place = Place::Backoff;
        }
    }

    /// The pod itself was changed in a way that may matter.
    pub(crate) fn changed(&mut self, key: &ObjectKey, now: Duration) {
        self.activate_if(now, |other, entry| {
            other == key && matches!(entry.place, Place::Waiting { .. })
        });
    }

    pub(crate) fn happened(&mut self, happening: Happening, now: Duration) {
        self.activate_if(now, |_, entry| match &entry.place {
            Place::Waiting { plugins, .. } => {
                plugins.is_empty() || plugins.iter().any(|plugin| happening.may_help(*plugin))
            }
            _ => false,
        });
    }

    /// Lets pods go on whose time has come.
    pub(crate) fn release(&mut self, now: Duration) {
        self.activate_if(now, |_, entry| match &entry.place {
            Place::Backoff => entry.backoff_until <= now,
            Place::Waiting { since, .. } => *since + WAIT_MAX <= now,
            _ => false,
        });
    }

    /// When `release` has something to do.
    pub(crate) fn next_release(&self) -> Option<Duration> {
        let at = |entry: &Entry| match &entry.place {
            Place::Backoff => Some(entry.backoff_until),
            Place::Waiting { since, .. } => Some(*since + WAIT_MAX),
            _ => None,
        };
        self.entries.values().filter_map(at).min()
    }

    /// A pod whose backoff is not over waits for that before it becomes active.
    fn activate_if(&mut self, now: Duration, chosen: impl Fn(&ObjectKey, &Entry) -> bool) {
        for (key, entry) in &mut self.entries {
            if !chosen(key, entry) {
                continue;
            }
            if entry.backoff_until > now {
                entry.place = Place::Backoff;
            } else {
                entry.place = Place::Active;
                self.active.insert((entry.rank, key.clone()));
            }
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    BACKOFF_FIRST
        .saturating_mul(1 << attempts.saturating_sub(1).min(8))
        .min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::namespaced("a", name)
    }

    #[test]
    fn the_most_important_goes_first_then_the_one_that_waited_longest() {
        let mut queue = Queue::default();
        queue.add(&key("low"), "1", 0);
        queue.add(&key("later"), "2", 0);
        queue.add(&key("high"), "3", 10);
        assert_eq!(queue.pop(), Some(key("high")));
        assert_eq!(queue.pop(), Some(key("low")));
        assert_eq!(queue.pop(), Some(key("later")));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn only_what_may_help_wakes_a_pod_and_not_before_its_backoff() {
        let mut queue = Queue::default();
        queue.add(&key("p"), "1", 0);
        queue.pop();
        let second = Duration::from_secs(1);
        queue.wait(
            &key("p"),
            BTreeSet::from([Plugin::NodeResourcesFit]),
            Duration::ZERO,
        );
        queue.happened(Happening::NodeLabels, second);
        assert!(!queue.has_active());
        queue.happened(Happening::PodGone, Duration::ZERO);
        assert!(!queue.has_active());
        assert_eq!(queue.next_release(), Some(second));
        queue.release(second);
        assert_eq!(queue.pop(), Some(key("p")));
    }
}

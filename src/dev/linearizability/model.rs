//! What a store may answer: the states that can follow one, given a call and its outcome.

use std::collections::BTreeSet;

use crate::history::{Call, Entries, Entry, Key, Operation, Outcome, Write, is_relaxed};

/// Whether writes of relaxed keys may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leases {
    Strict,
    Relaxed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) revision: i64,
    pub(crate) entries: Entries,
    epoch: u32,
    granted: BTreeSet<i64>,
    /// What relaxed writes replaced since the last durable one: a crash may undo them from the end.
    relaxed: Vec<(Key, Option<Entry>)>,
}

impl State {
    pub(crate) fn empty() -> Self {
        Self {
            revision: 1,
            entries: Entries::new(),
            epoch: 0,
            granted: BTreeSet::new(),
            relaxed: Vec::new(),
        }
    }

    /// The states after an operation that had its outcome here; none if it cannot have had it.
    pub(crate) fn after(&self, operation: &Operation, leases: Leases) -> Vec<Self> {
        if operation.epoch != self.epoch {
            return Vec::new();
        }
        let mut states = match &operation.call {
            Call::Read { key } => self.read(*key, &operation.outcome),
            Call::ReadOld { .. } => vec![self.clone()],
            Call::Write { condition, writes } => {
                let written = self.write(*condition, writes, &operation.outcome, leases);
                written.into_iter().collect()
            }
            Call::Grant { lease } => {
                let mut next = self.clone();
                next.granted.insert(*lease);
                vec![next]
            }
            Call::Revoke { lease } => self.revoke(*lease, &operation.outcome),
            Call::Crash => self.crash(&operation.outcome, leases),
        };
        if operation.outcome == Outcome::Unknown {
            // What changed nothing need not have happened.
            states.retain(|state| state != self);
        }
        states
    }

    fn read(&self, key: Option<Key>, outcome: &Outcome) -> Vec<Self> {
        let Outcome::Read { revision, entries } = outcome else {
            return Vec::new();
        };
        let same = match key {
            Some(key) => self.entries.get(&key) == entries.get(&key),
            None => self.entries == *entries,
        };
        if same && *revision == self.revision {
            vec![self.clone()]
        } else {
            Vec::new()
        }
    }

    fn write(
        &self,
        condition: Option<(Key, i64)>,
        writes: &[Write],
        outcome: &Outcome,
        leases: Leases,
    ) -> Option<Self> {
        let modified = |key: Key| self.entries.get(&key).map_or(0, |entry| entry.modified);
        if let Some((key, wanted)) = condition
            && modified(key) != wanted
        {
            let found = self.entries.get(&key).copied();
            let revision = self.revision;
            return match outcome {
                Outcome::Unknown => Some(self.clone()),
                outcome if *outcome == (Outcome::NotWritten { revision, found }) => {
                    Some(self.clone())
                }
                _ => None,
            };
        }
        let granted = |write: &Write| match write {
            Write::Put { lease, .. } => *lease == 0 || self.granted.contains(lease),
            Write::Delete { .. } => true,
        };
        if !writes.iter().all(granted) {
            let told = matches!(outcome, Outcome::LeaseMissing | Outcome::Unknown);
            return told.then(|| self.clone());
        }
        let mut next = self.clone();
        let previous: Vec<_> = writes.iter().map(|write| next.apply(write)).collect();
        if next.entries != self.entries {
            next.revision += 1;
        }
        if leases == Leases::Relaxed && writes.iter().all(may_be_lost) {
            let keys = writes.iter().map(Write::key);
            next.relaxed.extend(keys.zip(previous.iter().copied()));
        } else if next.revision != self.revision {
            next.relaxed.clear();
        }
        let revision = next.revision;
        let told =
            *outcome == Outcome::Unknown || *outcome == (Outcome::Written { revision, previous });
        told.then_some(next)
    }

    /// Writes in the next revision, and returns what was there.
    fn apply(&mut self, write: &Write) -> Option<Entry> {
        match *write {
            Write::Put { key, value, lease } => {
                let previous = self.entries.get(&key).copied();
                let modified = self.revision + 1;
                let entry = Entry {
                    value,
                    created: previous.map_or(modified, |entry| entry.created),
                    modified,
                    version: previous.map_or(1, |entry| entry.version + 1),
                    lease,
                };
                self.entries.insert(key, entry);
                previous
            }
            Write::Delete { key } => self.entries.remove(&key),
        }
    }

    fn revoke(&self, lease: i64, outcome: &Outcome) -> Vec<Self> {
        let is_there = self.granted.contains(&lease);
        let told = match outcome {
            Outcome::Done => is_there,
            Outcome::LeaseMissing => !is_there,
            Outcome::Unknown => true,
            _ => false,
        };
        if !told {
            return Vec::new();
        }
        let mut next = self.clone();
        next.granted.remove(&lease);
        next.entries.retain(|_, entry| entry.lease != lease);
        if next.entries != self.entries {
            next.revision += 1;
            next.relaxed.clear();
        }
        vec![next]
    }

    /// Any number of relaxed writes may be undone; the revisions that they had are over.
    fn crash(&self, outcome: &Outcome, leases: Leases) -> Vec<Self> {
        let Outcome::Restarted { revision } = *outcome else {
            return Vec::new();
        };
        let possible = match leases {
            Leases::Strict => revision == self.revision,
            Leases::Relaxed => revision >= self.revision,
        };
        if !possible {
            return Vec::new();
        }
        let mut next = Self {
            revision,
            epoch: self.epoch + 1,
            relaxed: Vec::new(),
            ..self.clone()
        };
        let mut states = vec![next.clone()];
        for (key, entry) in self.relaxed.iter().rev() {
            match entry {
                Some(entry) => next.entries.insert(*key, *entry),
                None => next.entries.remove(key),
            };
            states.push(next.clone());
        }
        states
    }
}

fn may_be_lost(write: &Write) -> bool {
    match write {
        Write::Put { key, lease, .. } => is_relaxed(*key) && *lease == 0,
        Write::Delete { .. } => false,
    }
}

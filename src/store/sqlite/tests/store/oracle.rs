//! etcd's rules once more, in the plainest way: every revision is a whole map, every event is kept. Slow, and nothing in it is shared with the stores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kv::{
    Compare, CompareOperator, CompareTarget, KeyRange, Operation, RangeContent, RangeRequest, Txn,
};

use crate::steps::Step;

type Map = BTreeMap<Vec<u8>, Stored>;

#[derive(Clone)]
struct Stored {
    value: Arc<[u8]>,
    create: i64,
    modified: i64,
    version: i64,
    lease: i64,
}

struct Happened {
    revision: i64,
    key: Vec<u8>,
    what: String,
    previous: Option<String>,
}

pub(crate) struct Oracle {
    /// The map at revision 1, 2, 3…
    maps: Vec<Map>,
    events: Vec<Happened>,
    compacted: i64,
    leases: BTreeSet<i64>,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self {
            maps: vec![Map::new()],
            events: Vec::new(),
            compacted: -1,
            leases: BTreeSet::new(),
        }
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.maps.len()).unwrap()
    }

    fn newest(&self) -> &Map {
        self.maps.last().unwrap()
    }

    /// The answer to a step, as `steps::answer` gives it.
    pub(crate) fn answer(&mut self, step: &Step) -> String {
        match step {
            Step::Txn(txn, _) => self.txn(txn).unwrap_or_else(|error| error),
            Step::Range(request) => match self.check(request) {
                Err(error) => format!("Err({error})"),
                Ok(()) => format!(
                    "Ok({:?})",
                    self.range(request, self.newest(), self.revision())
                ),
            },
            Step::Compact(revision) => self.compact(*revision),
            Step::Grant(id) if self.leases.insert(*id) => format!("Ok(({id}, 3600s))"),
            Step::Grant(_) => "Err(LeaseExists)".into(),
            Step::Revoke(id) => self.revoke(*id),
            Step::Watch(range, revision) => self.watch(range, *revision),
            Step::LeaseStatus(id) if self.leases.contains(id) => {
                let keys = self
                    .newest()
                    .iter()
                    .filter(|(_, stored)| stored.lease == *id);
                format!(
                    "Ok((3600s, {:?}))",
                    keys.map(|(key, _)| key).collect::<Vec<_>>()
                )
            }
            Step::LeaseStatus(_) => "Err(LeaseNotFound)".into(),
            Step::Leases => format!("Ok({:?})", self.leases),
        }
        .replace('{', "[")
        .replace('}', "]")
    }

    fn check(&self, request: &RangeRequest) -> Result<(), String> {
        match request.revision {
            Some(revision) if revision > self.revision() => Err("FutureRevision".into()),
            Some(revision) if revision > 0 && revision < self.compacted => {
                Err(self.compacted_error())
            }
            _ => Ok(()),
        }
    }

    fn compacted_error(&self) -> String {
        format!("Compacted [ compact_revision: {} ]", self.compacted)
    }

    fn range(&self, request: &RangeRequest, newest: &Map, header: i64) -> String {
        let map = match request.revision {
            Some(revision) if revision > 0 => &self.maps[usize::try_from(revision).unwrap() - 1],
            _ => newest,
        };
        let found: Vec<_> = map
            .iter()
            .filter(|(key, _)| request.range.contains(key))
            .collect();
        let shown = match (request.content, request.limit) {
            (RangeContent::CountOnly, _) => 0,
            (RangeContent::KeysAndValues, 0) => found.len(),
            (RangeContent::KeysAndValues, limit) => limit.min(found.len()),
        };
        let entries: Vec<_> = found[..shown]
            .iter()
            .map(|(key, stored)| text(key, stored))
            .collect();
        format!("{header} {} {entries:?}", found.len())
    }

    fn compact(&mut self, revision: i64) -> String {
        if revision <= self.compacted {
            return format!("Err({})", self.compacted_error());
        }
        if revision > self.revision() {
            return "Err(FutureRevision)".into();
        }
        self.compacted = revision;
        "Ok(())".into()
    }

    fn revoke(&mut self, id: i64) -> String {
        if !self.leases.remove(&id) {
            return "Err(LeaseNotFound)".into();
        }
        let mut map = self.newest().clone();
        let keys: Vec<_> = map
            .iter()
            .filter(|(_, stored)| stored.lease == id)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &keys {
            self.delete(&mut map, key);
        }
        if !keys.is_empty() {
            self.maps.push(map);
        }
        format!("Ok({})", self.revision())
    }

    fn watch(&self, range: &KeyRange, start: i64) -> String {
        if start > self.revision() + 1 {
            return String::new();
        }
        if start != 0 && start < self.compacted {
            return format!("{:?}", vec![format!("compacted {}", self.compacted)]);
        }
        let first = if start == 0 {
            self.revision() + 1
        } else {
            start
        };
        let seen = self
            .events
            .iter()
            .filter(|event| event.revision >= first && range.contains(&event.key));
        let mut lines: Vec<_> = seen
            .map(|event| {
                let previous = event
                    .previous
                    .as_ref()
                    .filter(|_| event.revision > self.compacted);
                format!("{} was {previous:?}", event.what)
            })
            .collect();
        lines.push(format!("progress {}", self.revision()));
        format!("{lines:?}")
    }

    fn txn(&mut self, txn: &Txn) -> Result<String, String> {
        for operations in [&txn.success, &txn.failure] {
            duplicates(operations)?;
            lost_updates(operations)?;
        }
        let before = self.newest().clone();
        self.check_branch(txn, &before)?;
        let mut map = before.clone();
        let events = self.events.len();
        let answer = self.run(txn, &before, &mut map, events);
        if self.events.len() > events {
            self.maps.push(map);
        }
        Ok(answer)
    }

    fn check_branch(&self, txn: &Txn, before: &Map) -> Result<(), String> {
        for operation in branch(txn, before).1 {
            match operation {
                Operation::Range(request) => self.check(request)?,
                Operation::Put { lease, .. } => self.check_lease(*lease)?,
                Operation::Update { key, lease, .. } => {
                    if !before.contains_key(key) {
                        return Err("KeyNotFound".into());
                    }
                    self.check_lease(lease.unwrap_or(0))?;
                }
                Operation::DeleteRange(_) => {}
                Operation::Txn(inner) => self.check_branch(inner, before)?,
            }
        }
        Ok(())
    }

    fn check_lease(&self, lease: i64) -> Result<(), String> {
        if lease != 0 && !self.leases.contains(&lease) {
            return Err("LeaseNotFound".into());
        }
        Ok(())
    }

    /// Runs what passed the checks; `events` is how many there were before the whole transaction.
    fn run(&mut self, txn: &Txn, before: &Map, map: &mut Map, events: usize) -> String {
        let (succeeded, operations) = branch(txn, before);
        let mut results = Vec::new();
        for operation in operations {
            let header = self.revision() + i64::from(self.events.len() > events);
            results.push(match operation {
                Operation::Range(request) => self.range(request, map, header),
                Operation::Put { key, value, lease } => self.put(map, key, value, *lease),
                Operation::Update { key, value, lease } => {
                    let old = map[key].clone();
                    let value = value.clone().unwrap_or(old.value);
                    self.put(map, key, &value, lease.unwrap_or(old.lease))
                }
                Operation::DeleteRange(range) => {
                    let keys: Vec<_> = map
                        .keys()
                        .filter(|key| range.contains(key))
                        .cloned()
                        .collect();
                    let deleted: Vec<_> = keys.iter().map(|key| self.delete(map, key)).collect();
                    format!("deleted {deleted:?}")
                }
                Operation::Txn(inner) => self.run(inner, before, map, events),
            });
        }
        let revision = self.revision() + i64::from(self.events.len() > events);
        format!("{succeeded} {revision} {results:?}")
    }

    fn put(&mut self, map: &mut Map, key: &[u8], value: &Arc<[u8]>, lease: i64) -> String {
        let revision = self.revision() + 1;
        let old = map.get(key);
        let stored = Stored {
            value: Arc::clone(value),
            create: old.map_or(revision, |old| old.create),
            modified: revision,
            version: old.map_or(1, |old| old.version + 1),
            lease,
        };
        let what = format!("put {}", long_text(key, &stored));
        self.events.push(Happened {
            revision,
            key: key.to_vec(),
            what,
            previous: old.map(|old| long_text(key, old)),
        });
        let answer = format!(
            "{} was {:?}",
            text(key, &stored),
            old.map(|old| text(key, old))
        );
        map.insert(key.to_vec(), stored);
        answer
    }

    fn delete(&mut self, map: &mut Map, key: &[u8]) -> String {
        let revision = self.revision() + 1;
        let old = map.remove(key).unwrap();
        let what = format!("delete {} at {revision}", String::from_utf8_lossy(key));
        self.events.push(Happened {
            revision,
            key: key.to_vec(),
            what,
            previous: Some(long_text(key, &old)),
        });
        text(key, &old)
    }
}

fn text(key: &[u8], stored: &Stored) -> String {
    let (key, value) = (
        String::from_utf8_lossy(key),
        String::from_utf8_lossy(&stored.value),
    );
    format!(
        "{key}={value} {} {} {} {}",
        stored.create, stored.modified, stored.version, stored.lease
    )
}

fn long_text(key: &[u8], stored: &Stored) -> String {
    let (key, value) = (
        String::from_utf8_lossy(key),
        String::from_utf8_lossy(&stored.value),
    );
    let Stored {
        create,
        modified,
        version,
        lease,
        ..
    } = stored;
    format!("{key}={value} created {create} modified {modified} version {version} lease {lease}")
}

/// Whether the conditions hold, and the operations that run.
fn branch<'a>(txn: &'a Txn, before: &Map) -> (bool, &'a [Operation]) {
    let succeeded = txn.compares.iter().all(|compare| holds(before, compare));
    (
        succeeded,
        if succeeded {
            &txn.success
        } else {
            &txn.failure
        },
    )
}

/// The keys that a list puts, and the ranges that it deletes.
type Written = (BTreeSet<Vec<u8>>, Vec<KeyRange>);

fn duplicates(operations: &[Operation]) -> Result<Written, String> {
    let mut puts = BTreeSet::new();
    let mut deletes: Vec<KeyRange> = operations
        .iter()
        .filter_map(|operation| match operation {
            Operation::DeleteRange(range) if !is_open(range) => Some(range.clone()),
            _ => None,
        })
        .collect();
    let mut put = |key: &Vec<u8>, deletes: &[KeyRange]| {
        if deletes.iter().any(|range| range.contains(key)) || !puts.insert(key.clone()) {
            return Err("DuplicateKey".to_owned());
        }
        Ok(())
    };
    for operation in operations {
        if let Operation::Txn(inner) = operation {
            let (one, other) = (duplicates(&inner.success)?, duplicates(&inner.failure)?);
            for key in one.0.union(&other.0) {
                put(key, &deletes)?;
            }
            deletes.extend(one.1);
            deletes.extend(other.1);
        }
    }
    for operation in operations {
        if let Operation::Put { key, .. } | Operation::Update { key, .. } = operation {
            put(key, &deletes)?;
        }
    }
    Ok((puts, deletes))
}

/// Whether a range goes to the last key; etcd lets deletes of such a range stand beside puts.
fn is_open(range: &KeyRange) -> bool {
    range.end.as_ref().is_some_and(Vec::is_empty)
}

/// A put that keeps what is there, of a key that a delete to the last key takes away.
fn lost_updates(operations: &[Operation]) -> Result<(), String> {
    let (mut updates, mut deletes) = (Vec::new(), Vec::new());
    walk(operations, &mut |operation| match operation {
        Operation::Update { key, .. } => updates.push(key.clone()),
        Operation::DeleteRange(range) if is_open(range) => deletes.push(range.clone()),
        _ => {}
    });
    let lost = |key| deletes.iter().any(|range| range.contains(key));
    if updates.iter().any(|key| lost(key)) {
        return Err("DuplicateKey".to_owned());
    }
    Ok(())
}

fn walk(operations: &[Operation], visit: &mut impl FnMut(&Operation)) {
    for operation in operations {
        visit(operation);
        if let Operation::Txn(inner) = operation {
            walk(&inner.success, visit);
            walk(&inner.failure, visit);
        }
    }
}

fn holds(map: &Map, compare: &Compare) -> bool {
    let found: Vec<_> = map
        .iter()
        .filter(|(key, _)| compare.range.contains(key))
        .collect();
    if found.is_empty() {
        return matches(compare, None);
    }
    found
        .iter()
        .all(|(_, stored)| matches(compare, Some(stored)))
}

fn matches(compare: &Compare, stored: Option<&Stored>) -> bool {
    let is = |number: i64, wanted: i64| match compare.operator {
        CompareOperator::Equal => number == wanted,
        CompareOperator::NotEqual => number != wanted,
        CompareOperator::Greater => number > wanted,
        CompareOperator::Less => number < wanted,
    };
    match &compare.target {
        CompareTarget::CreateRevision(wanted) => {
            is(stored.map_or(0, |stored| stored.create), *wanted)
        }
        CompareTarget::ModRevision(wanted) => {
            is(stored.map_or(0, |stored| stored.modified), *wanted)
        }
        CompareTarget::Version(wanted) => is(stored.map_or(0, |stored| stored.version), *wanted),
        CompareTarget::Lease(wanted) => is(stored.map_or(0, |stored| stored.lease), *wanted),
        CompareTarget::Value(wanted) => stored.is_some_and(|stored| match compare.operator {
            CompareOperator::Equal => *stored.value == **wanted,
            CompareOperator::NotEqual => *stored.value != **wanted,
            CompareOperator::Greater => *stored.value > **wanted,
            CompareOperator::Less => *stored.value < **wanted,
        }),
    }
}

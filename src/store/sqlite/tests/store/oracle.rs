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
        duplicates(&txn.success)?;
        duplicates(&txn.failure)?;
        let succeeded = txn
            .compares
            .iter()
            .all(|compare| holds(self.newest(), compare));
        let operations = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        for operation in operations {
            match operation {
                Operation::Range(request) => self.check(request)?,
                Operation::Put { lease, .. } if *lease != 0 && !self.leases.contains(lease) => {
                    return Err("LeaseNotFound".into());
                }
                Operation::Put { .. } | Operation::DeleteRange(_) => {}
            }
        }
        let mut map = self.newest().clone();
        let events = self.events.len();
        let mut results = Vec::new();
        for operation in operations {
            let header = self.revision() + i64::from(self.events.len() > events);
            results.push(match operation {
                Operation::Range(request) => self.range(request, &map, header),
                Operation::Put { key, value, lease } => self.put(&mut map, key, value, *lease),
                Operation::DeleteRange(range) => {
                    let keys: Vec<_> = map
                        .keys()
                        .filter(|key| range.contains(key))
                        .cloned()
                        .collect();
                    let deleted: Vec<_> =
                        keys.iter().map(|key| self.delete(&mut map, key)).collect();
                    format!("deleted {deleted:?}")
                }
            });
        }
        if self.events.len() > events {
            self.maps.push(map);
        }
        Ok(format!("{succeeded} {} {results:?}", self.revision()))
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

fn duplicates(operations: &[Operation]) -> Result<(), String> {
    let key = |operation: &Operation| {
        if let Operation::Put { key, .. } = operation {
            Some(key.clone())
        } else {
            None
        }
    };
    for (at, operation) in operations.iter().enumerate() {
        let Some(put) = key(operation) else { continue };
        for (other_at, other) in operations.iter().enumerate() {
            let again = other_at != at && key(other).is_some_and(|other| other == put);
            let deleted = matches!(other, Operation::DeleteRange(range) if range.contains(&put));
            if again || deleted {
                return Err("DuplicateKey".into());
            }
        }
    }
    Ok(())
}

fn holds(map: &Map, compare: &Compare) -> bool {
    let stored = map.get(&compare.key);
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

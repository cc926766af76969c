//! What a transaction does to a state: all compares on the state before, then all checks, then the operations in order. A transaction that errors
//! changes nothing.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use crate::item::{CHANGES_PER_REVISION_MAX, VersionId};
use crate::replica::ReadHistory;
use crate::state::{Change, Located, State};
use crate::tree::Which;
use crate::types::{
    Compare, CompareOperator, CompareTarget, Entry, Error, KeyRange, LeaseId, Operation,
    OperationResult, RangeRequest, RangeResponse, Result, Revision, Txn, TxnResponse,
};

/// etcd's `--max-txn-ops`.
pub const OPERATIONS_MAX: usize = 128;
/// etcd's `--max-request-bytes`.
pub const REQUEST_BYTES_MAX: usize = 3 << 19;

/// How large a transaction may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Compares, operations on success, operations on failure: each at most this many.
    pub operations_max: usize,
    /// Bytes of all keys and values of a transaction.
    pub request_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations_max: OPERATIONS_MAX,
            request_bytes_max: REQUEST_BYTES_MAX,
        }
    }
}

/// What a transaction answered and changed.
#[derive(Debug)]
pub struct Transacted {
    pub response: TxnResponse,
    /// In the order of the operations; empty if it wrote nothing.
    pub changes: Vec<Change>,
}

impl Txn {
    /// What can be said of a transaction without looking at the store.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        self.check_keys(limits.operations_max)?;
        if self.bytes() > limits.request_bytes_max {
            return Err(Error::TooLarge);
        }
        written(&self.success)?.check_updates()?;
        written(&self.failure)?.check_updates()
    }

    /// A transaction in a transaction may only be as long as the outer one leaves room for.
    fn check_keys(&self, operations_max: usize) -> Result<()> {
        let longest = self
            .compares
            .len()
            .max(self.success.len())
            .max(self.failure.len());
        let Some(left) = operations_max.checked_sub(longest) else {
            return Err(Error::TooManyOperations);
        };
        if self.compares.iter().any(|compare| missing(&compare.range)) {
            return Err(Error::EmptyKey);
        }
        for operation in self.branches() {
            match operation {
                Operation::Txn(inner) => inner.check_keys(left)?,
                _ if operation.key_is_missing() => return Err(Error::EmptyKey),
                _ => {}
            }
        }
        Ok(())
    }

    fn branches(&self) -> impl Iterator<Item = &Operation> {
        self.success.iter().chain(&self.failure)
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        let compares = self.compares.iter().map(compare_bytes);
        compares.chain(self.branches().map(Operation::bytes)).sum()
    }

    /// Operations that run at most.
    pub fn operations(&self) -> usize {
        let sum = |operations: &[Operation]| -> usize {
            let count = |operation: &Operation| match operation {
                Operation::Txn(inner) => 1 + inner.operations(),
                _ => 1,
            };
            operations.iter().map(count).sum()
        };
        sum(&self.success).max(sum(&self.failure))
    }

    /// Whether some range asks for an older revision, which may have to be read from disk.
    pub fn reads_history(&self) -> bool {
        self.branches().any(|operation| match operation {
            Operation::Range(request) => request.revision.is_some_and(|revision| revision > 0),
            Operation::Txn(inner) => inner.reads_history(),
            _ => false,
        })
    }
}

impl Operation {
    fn bytes(&self) -> usize {
        match self {
            Self::Range(request) => range_bytes(&request.range),
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Update { key, value, .. } => {
                key.len() + value.as_ref().map_or(0, |value| value.len())
            }
            Self::DeleteRange(range) => range_bytes(range),
            Self::Txn(inner) => inner.bytes(),
        }
    }

    fn key_is_missing(&self) -> bool {
        match self {
            Self::Range(request) => missing(&request.range),
            Self::Put { key, .. } | Self::Update { key, .. } => key.is_empty(),
            Self::DeleteRange(range) => missing(range),
            Self::Txn(_) => false,
        }
    }
}

fn missing(range: &KeyRange) -> bool {
    range.start.is_empty() && range.end.is_none()
}

fn compare_bytes(compare: &Compare) -> usize {
    let value = if let CompareTarget::Value(value) = &compare.target {
        value.len()
    } else {
        0
    };
    range_bytes(&compare.range) + value
}

fn range_bytes(range: &KeyRange) -> usize {
    range.start.len() + range.end.as_ref().map_or(0, Vec::len)
}

/// What a list of operations may write, on whichever branches.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    /// The puts that need what is there.
    updates: BTreeSet<&'a [u8]>,
    deletes: RangeSet,
    /// The smallest key from which on everything is deleted.
    deleted_from: Option<&'a [u8]>,
}

/// No key may be put twice, or put and deleted, but on two branches of which only one runs. A transaction among the operations is held against the
/// deletes beside it and before it, and its puts against all of the other puts. As in etcd, a delete to the last key stands beside puts.
fn written(operations: &[Operation]) -> Result<Written<'_>> {
    let mut written = Written::default();
    for operation in operations {
        if let Operation::DeleteRange(range) = operation {
            written.delete(range);
        }
    }
    for operation in operations {
        if let Operation::Txn(inner) = operation {
            let (success, failure) = (
                self::written(&inner.success)?,
                self::written(&inner.failure)?,
            );
            for key in &success.puts {
                written.put(key)?;
            }
            for key in failure.puts.difference(&success.puts) {
                written.put(key)?;
            }
            for inner in [success, failure] {
                written.deletes.extend(inner.deletes);
                written.updates.extend(inner.updates);
                if let Some(start) = inner.deleted_from {
                    written.delete_from(start);
                }
            }
        }
    }
    for operation in operations {
        if let Operation::Put { key, .. } | Operation::Update { key, .. } = operation {
            written.put(key)?;
        }
        if let Operation::Update { key, .. } = operation {
            written.updates.insert(key);
        }
    }
    Ok(written)
}

impl<'a> Written<'a> {
    fn delete(&mut self, range: &'a KeyRange) {
        match &range.end {
            Some(end) if end.is_empty() => self.delete_from(&range.start),
            _ => self.deletes.insert(range),
        }
    }

    fn delete_from(&mut self, start: &'a [u8]) {
        self.deleted_from = Some(self.deleted_from.map_or(start, |other| other.min(start)));
    }

    /// A key that the transaction itself deletes has nothing to keep. (etcd ends over such a transaction.)
    fn check_updates(&self) -> Result<()> {
        match (self.updates.last(), self.deleted_from) {
            (Some(last), Some(start)) if *last >= start => Err(Error::DuplicateKey),
            _ => Ok(()),
        }
    }

    fn put(&mut self, key: &'a [u8]) -> Result<()> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

/// A set of keys, as ranges that neither overlap nor touch: start → end.
#[derive(Default)]
struct RangeSet(BTreeMap<Vec<u8>, Vec<u8>>);

impl RangeSet {
    fn insert(&mut self, range: &KeyRange) {
        let end = match &range.end {
            None => [&range.start[..], &[0]].concat(),
            Some(end) if *end <= range.start => return,
            Some(end) => end.clone(),
        };
        self.add(range.start.clone(), end);
    }

    fn extend(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.add(start, end);
        }
    }

    fn add(&mut self, mut start: Vec<u8>, mut end: Vec<u8>) {
        loop {
            let last = self.0.range(..=end.clone()).next_back();
            let Some((other, _)) = last.filter(|(_, other_end)| **other_end >= start) else {
                break;
            };
            let other = other.clone();
            let other_end = self.0.remove(&other).expect("it was just found");
            start = start.min(other);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let mut before = self
            .0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        before
            .next_back()
            .is_some_and(|(_, end)| key < end.as_slice())
    }
}

/// A transaction whose conditions are decided: what runs, and the answers to ranges at older revisions.
struct Plan<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    One(&'a Operation),
    OldRange(RangeResponse),
    Txn(Plan<'a>),
}

impl State {
    /// Runs a transaction that passed [`Txn::check`].
    pub fn transact(&mut self, txn: &Txn, history: Option<&dyn ReadHistory>) -> Result<Transacted> {
        let mut changes_max = 0;
        let plan = self.plan(txn, history, &mut changes_max)?;
        if changes_max > CHANGES_PER_REVISION_MAX {
            return Err(Error::TooManyOperations);
        }
        let mut changes = Vec::new();
        let response = self.run(plan, &mut changes)?;
        if !changes.is_empty() {
            self.revision += 1;
        }
        Ok(Transacted { response, changes })
    }

    /// Decides all conditions and makes all checks, and reads what may fail to be read: nothing is changed yet.
    fn plan<'a>(
        &self,
        txn: &'a Txn,
        history: Option<&dyn ReadHistory>,
        changes_max: &mut usize,
    ) -> Result<Plan<'a>> {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let operations = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let mut steps = Vec::with_capacity(operations.len());
        for operation in operations {
            steps.push(match operation {
                Operation::Txn(inner) => Step::Txn(self.plan(inner, history, changes_max)?),
                Operation::Range(request)
                    if request.revision.is_some_and(|revision| revision > 0) =>
                {
                    Step::OldRange(self.read_old_range(request, history)?)
                }
                _ => {
                    self.check_operation(operation, changes_max)?;
                    Step::One(operation)
                }
            });
        }
        Ok(Plan { succeeded, steps })
    }

    fn run(&mut self, plan: Plan<'_>, changes: &mut Vec<Change>) -> Result<TxnResponse> {
        let mut results = Vec::with_capacity(plan.steps.len());
        for step in plan.steps {
            let result = match step {
                Step::One(operation) => self.operate(operation, changes)?,
                Step::OldRange(mut response) => {
                    response.revision = self.revision_after(changes);
                    OperationResult::Range(response)
                }
                Step::Txn(inner) => OperationResult::Txn(self.run(inner, changes)?),
            };
            results.push(result);
        }
        Ok(TxnResponse {
            succeeded: plan.succeeded,
            revision: self.revision_after(changes),
            results,
        })
    }

    fn revision_after(&self, changes: &[Change]) -> Revision {
        self.revision + Revision::from(!changes.is_empty())
    }

    fn operate(
        &mut self,
        operation: &Operation,
        changes: &mut Vec<Change>,
    ) -> Result<OperationResult> {
        let revision = self.revision + 1;
        Ok(match operation {
            Operation::Range(request) => {
                let mut response = self.range_newest(request)?;
                response.revision = self.revision_after(changes);
                OperationResult::Range(response)
            }
            Operation::Put { key, value, lease } => self.put_one(key, value, *lease, changes),
            Operation::Update { key, value, lease } => {
                let entry = self
                    .entry(key)
                    .expect("it was checked, and nothing deleted it");
                let value = Arc::clone(value.as_ref().unwrap_or(&entry.value));
                let lease = lease.unwrap_or(entry.lease);
                self.put_one(key, &value, lease, changes)
            }
            Operation::DeleteRange(range) => OperationResult::Delete {
                previous: self.delete_range(revision, range, changes),
            },
            Operation::Txn(_) => unreachable!("a plan holds transactions as plans"),
        })
    }

    fn put_one(
        &mut self,
        key: &[u8],
        value: &Arc<[u8]>,
        lease: LeaseId,
        changes: &mut Vec<Change>,
    ) -> OperationResult {
        let id = VersionId::new(self.revision + 1, changes.len());
        let (entry, change) = self.put(id, key, value, lease);
        let previous = change.previous.clone();
        changes.push(change);
        OperationResult::Put { entry, previous }
    }

    /// Deletes every key of a lease, and the lease, in one revision; no revision if it has no key.
    pub fn revoke(&mut self, id: LeaseId) -> Result<Vec<Change>> {
        if self.lease(id).is_none() {
            return Err(Error::LeaseNotFound);
        }
        let revision = self.revision + 1;
        let mut changes = Vec::new();
        // A lease with more keys than a revision can hold keeps the rest for the revoke that follows.
        for key in self
            .lease_keys(id)
            .into_iter()
            .take(CHANGES_PER_REVISION_MAX)
        {
            let entry = self.entry(&key).cloned().expect("an attached key is there");
            changes.push(self.delete(VersionId::new(revision, changes.len()), &entry));
        }
        if changes.len() < CHANGES_PER_REVISION_MAX {
            self.remove_lease(id);
        }
        if !changes.is_empty() {
            self.revision = revision;
        }
        Ok(changes)
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut holds = None;
        self.items.visit(&compare.range, Which::Live, &mut |item| {
            let this = matches(compare, item.entry().map(|entry| &**entry));
            holds = Some(this);
            if this {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        holds.unwrap_or_else(|| matches(compare, None))
    }

    fn check_operation(&self, operation: &Operation, changes_max: &mut usize) -> Result<()> {
        let granted = |lease: LeaseId| lease == 0 || self.lease(lease).is_some();
        match operation {
            Operation::Range(request) => {
                self.check_revision(request.revision)?;
                // A range on its own takes a negative revision for the newest; as in etcd, one in a transaction takes it for what it is.
                if request
                    .revision
                    .is_some_and(|asked| asked != 0 && asked < self.compact_revision)
                {
                    return Err(Error::Compacted {
                        compact_revision: self.compact_revision,
                    });
                }
            }
            Operation::Put { lease, .. } => {
                if !granted(*lease) {
                    return Err(Error::LeaseNotFound);
                }
                *changes_max += 1;
            }
            Operation::Update { key, lease, .. } => {
                if self.entry(key).is_none() {
                    return Err(Error::KeyNotFound);
                }
                if !lease.is_none_or(granted) {
                    return Err(Error::LeaseNotFound);
                }
                *changes_max += 1;
            }
            // To the last key, it may delete again what the transaction itself put.
            Operation::DeleteRange(range) => {
                *changes_max = 2 * *changes_max + self.items.count(range);
            }
            Operation::Txn(_) => {}
        }
        Ok(())
    }

    /// The answer to a range at an older revision: the transaction's own writes cannot change it.
    fn read_old_range(
        &self,
        request: &RangeRequest,
        history: Option<&dyn ReadHistory>,
    ) -> Result<RangeResponse> {
        let found = self.find(request)?;
        Ok(RangeResponse {
            revision: self.revision,
            entries: load(found.located, history)?,
            count: found.count,
        })
    }

    fn range_newest(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let found = self.find(request)?;
        Ok(RangeResponse {
            revision: self.revision,
            entries: load(found.located, None)?,
            count: found.count,
        })
    }

    fn delete_range(
        &mut self,
        revision: Revision,
        range: &KeyRange,
        changes: &mut Vec<Change>,
    ) -> Vec<Arc<Entry>> {
        let request = RangeRequest::newest(range.clone());
        let found = self
            .find(&request)
            .expect("the newest revision can always be read");
        let previous = load(found.located, None).expect("newest entries are in memory");
        for entry in &previous {
            let change = self.delete(VersionId::new(revision, changes.len()), entry);
            changes.push(change);
        }
        previous
    }
}

/// Whether a key, or its absence, meets a condition.
fn matches(compare: &Compare, entry: Option<&Entry>) -> bool {
    let number = |of: fn(&Entry) -> i64| entry.map_or(0, of);
    let ordering = match &compare.target {
        CompareTarget::CreateRevision(wanted) => number(|entry| entry.create_revision).cmp(wanted),
        CompareTarget::ModRevision(wanted) => number(|entry| entry.mod_revision).cmp(wanted),
        CompareTarget::Version(wanted) => number(|entry| entry.version).cmp(wanted),
        CompareTarget::Lease(wanted) => number(|entry| entry.lease).cmp(wanted),
        // A missing key has no value, not an empty one: every comparison with it fails.
        CompareTarget::Value(wanted) => match entry {
            Some(entry) => (*entry.value).cmp(wanted.as_slice()),
            None => return false,
        },
    };
    match compare.operator {
        CompareOperator::Equal => ordering == Ordering::Equal,
        CompareOperator::NotEqual => ordering != Ordering::Equal,
        CompareOperator::Greater => ordering == Ordering::Greater,
        CompareOperator::Less => ordering == Ordering::Less,
    }
}

/// Reads what is not in memory.
pub(crate) fn load(
    located: Vec<Located>,
    history: Option<&dyn ReadHistory>,
) -> Result<Vec<Arc<Entry>>> {
    let wanted: Vec<_> = located
        .iter()
        .filter_map(|found| match found {
            Located::OnDisk(id, key) => Some((*id, Arc::clone(key))),
            Located::InMemory(_) => None,
        })
        .collect();
    let mut read = match history {
        Some(history) if !wanted.is_empty() => history.read(&wanted)?.into_iter(),
        _ => Vec::new().into_iter(),
    };
    let entry = |found| match found {
        Located::InMemory(entry) => Ok(entry),
        Located::OnDisk(..) => read.next().ok_or(Error::Corrupt),
    };
    located.into_iter().map(entry).collect()
}

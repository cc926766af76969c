//! What a transaction does to a state: all compares on the state before, then all checks, then the operations in order. A transaction that errors
//! changes nothing.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::item::{CHANGES_PER_REVISION_MAX, VersionId};
use crate::replica::ReadHistory;
use crate::state::{Change, Located, State};
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
        let longest = self
            .compares
            .len()
            .max(self.success.len())
            .max(self.failure.len());
        if longest > limits.operations_max {
            return Err(Error::TooManyOperations);
        }
        let operations = || self.success.iter().chain(&self.failure);
        let bytes: usize = self
            .compares
            .iter()
            .map(compare_bytes)
            .chain(operations().map(Operation::bytes))
            .sum();
        if bytes > limits.request_bytes_max {
            return Err(Error::TooLarge);
        }
        let empty_compare = self.compares.iter().any(|compare| compare.key.is_empty());
        if empty_compare || operations().any(Operation::key_is_missing) {
            return Err(Error::EmptyKey);
        }
        check_duplicates(&self.success)?;
        check_duplicates(&self.failure)
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        let operations = self
            .success
            .iter()
            .chain(&self.failure)
            .map(Operation::bytes);
        self.compares
            .iter()
            .map(compare_bytes)
            .chain(operations)
            .sum()
    }

    /// Whether some range asks for an older revision, which may have to be read from disk.
    pub fn reads_history(&self) -> bool {
        self.success.iter().chain(&self.failure).any(
            |operation| matches!(operation, Operation::Range(request) if request.revision.is_some_and(|revision| revision > 0)),
        )
    }
}

impl Operation {
    fn bytes(&self) -> usize {
        match self {
            Self::Range(request) => range_bytes(&request.range),
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::DeleteRange(range) => range_bytes(range),
        }
    }

    fn key_is_missing(&self) -> bool {
        let missing = |range: &KeyRange| range.start.is_empty() && range.end.is_none();
        match self {
            Self::Range(request) => missing(&request.range),
            Self::Put { key, .. } => key.is_empty(),
            Self::DeleteRange(range) => missing(range),
        }
    }
}

fn compare_bytes(compare: &Compare) -> usize {
    let value = if let CompareTarget::Value(value) = &compare.target {
        value.len()
    } else {
        0
    };
    compare.key.len() + value
}

fn range_bytes(range: &KeyRange) -> usize {
    range.start.len() + range.end.as_ref().map_or(0, Vec::len)
}

/// No key may be put twice, or put and deleted, in whatever order.
fn check_duplicates(operations: &[Operation]) -> Result<()> {
    let mut puts: BTreeSet<&[u8]> = BTreeSet::new();
    for operation in operations {
        if let Operation::Put { key, .. } = operation
            && !puts.insert(key)
        {
            return Err(Error::DuplicateKey);
        }
    }
    let overlaps = operations.iter().any(|operation| {
        matches!(operation, Operation::DeleteRange(range) if puts.range(range.start.as_slice()..).next().is_some_and(|key| range.contains(key)))
    });
    if overlaps {
        Err(Error::DuplicateKey)
    } else {
        Ok(())
    }
}

impl State {
    /// Runs a transaction that passed [`Txn::check`].
    pub fn transact(&mut self, txn: &Txn, history: Option<&dyn ReadHistory>) -> Result<Transacted> {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let operations = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        self.check_operations(operations)?;
        let old_ranges = self.read_old_ranges(operations, history)?;

        let begin = self.revision;
        let mut changes = Vec::new();
        let mut results = Vec::with_capacity(operations.len());
        for (operation, old_range) in operations.iter().zip(old_ranges) {
            let result = match operation {
                Operation::Range(request) => {
                    let mut response = match old_range {
                        Some(response) => response,
                        None => self.range_newest(request)?,
                    };
                    response.revision = begin + Revision::from(!changes.is_empty());
                    OperationResult::Range(response)
                }
                Operation::Put { key, value, lease } => {
                    let id = VersionId::new(begin + 1, changes.len());
                    let (entry, change) = self.put(id, key, value, *lease);
                    let previous = change.previous.clone();
                    changes.push(change);
                    OperationResult::Put { entry, previous }
                }
                Operation::DeleteRange(range) => OperationResult::Delete {
                    previous: self.delete_range(begin + 1, range, &mut changes),
                },
            };
            results.push(result);
        }
        if !changes.is_empty() {
            self.revision = begin + 1;
        }
        Ok(Transacted {
            response: TxnResponse {
                succeeded,
                revision: self.revision,
                results,
            },
            changes,
        })
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
        let entry = self.entry(&compare.key);
        let number = |of: fn(&Entry) -> i64| entry.map_or(0, |entry| of(entry));
        let ordering = match &compare.target {
            CompareTarget::CreateRevision(wanted) => {
                number(|entry| entry.create_revision).cmp(wanted)
            }
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

    fn check_operations(&self, operations: &[Operation]) -> Result<()> {
        let mut changes = 0;
        for operation in operations {
            match operation {
                Operation::Range(request) => self.check_revision(request.revision)?,
                Operation::Put { lease, .. } => {
                    if *lease != 0 && self.lease(*lease).is_none() {
                        return Err(Error::LeaseNotFound);
                    }
                    changes += 1;
                }
                Operation::DeleteRange(range) => changes += self.items.count(range),
            }
        }
        if changes > CHANGES_PER_REVISION_MAX {
            Err(Error::TooManyOperations)
        } else {
            Ok(())
        }
    }

    /// The answers to ranges at older revisions. The transaction's own writes cannot change them, and reading them is what may fail.
    fn read_old_ranges(
        &self,
        operations: &[Operation],
        history: Option<&dyn ReadHistory>,
    ) -> Result<Vec<Option<RangeResponse>>> {
        let read = |operation: &Operation| match operation {
            Operation::Range(request) if request.revision.is_some_and(|revision| revision > 0) => {
                let found = self.find(request)?;
                let entries = load(found.located, history)?;
                Ok(Some(RangeResponse {
                    revision: self.revision,
                    entries,
                    count: found.count,
                }))
            }
            _ => Ok(None),
        };
        operations.iter().map(read).collect()
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

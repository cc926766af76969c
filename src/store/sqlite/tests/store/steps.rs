//! Random operations on a store, each made from a few numbers, and their answers as text that can be compared.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kv::{
    Compare, CompareOperator, CompareTarget, Durability, Entry, KeyRange, Kv, Operation,
    OperationResult, RangeContent, RangeRequest, RangeResponse, Revision, Txn, TxnResponse,
};

use crate::support::{drain, watch};

/// Transactions in one another, below the outer one.
const NESTED_MAX: u32 = 2;
/// Numbers that make one step.
pub(crate) const NUMBERS: usize = 31;
pub(crate) type Numbers = [u32; NUMBERS];

#[derive(Debug)]
pub(crate) enum Step {
    Txn(Txn, Durability),
    Range(RangeRequest),
    Compact(Revision),
    Grant(i64),
    Revoke(i64),
    /// A watch from a revision until it is up to date.
    Watch(KeyRange, Revision),
    LeaseStatus(i64),
    Leases,
}

/// The step that these numbers mean on a store at `revision`.
pub(crate) fn step(numbers: &Numbers, revision: Revision) -> Step {
    let mut source = Source {
        numbers,
        at: 0,
        revision,
    };
    match source.below(20) {
        0 => Step::Compact(source.revision()),
        1 => Step::Grant(source.lease()),
        2 => Step::Revoke(source.lease()),
        3 => Step::Watch(source.range(), source.revision()),
        4 | 5 => Step::Range(source.range_request()),
        6 => Step::LeaseStatus(source.lease()),
        7 => Step::Leases,
        _ => {
            let durability = if source.below(4) == 0 {
                Durability::Relaxed
            } else {
                Durability::Durable
            };
            Step::Txn(source.txn(NESTED_MAX), durability)
        }
    }
}

/// The answer of a store to a step.
pub(crate) async fn answer(kv: &dyn Kv, step: &Step) -> String {
    match step {
        Step::Txn(txn, durability) => match kv.txn(txn.clone(), *durability).await {
            Ok(answer) => transaction(&answer),
            Err(error) => format!("{error:?}"),
        },
        Step::Range(request) => format!(
            "{:?}",
            kv.range(request.clone()).await.map(|answer| range(&answer))
        ),
        Step::Compact(revision) => format!("{:?}", kv.compact(*revision).await),
        Step::Grant(id) => format!(
            "{:?}",
            kv.lease_grant(*id, LEASE_TTL)
                .await
                .map(|lease| (lease.id, lease.granted_ttl))
        ),
        Step::Revoke(id) => format!("{:?}", kv.lease_revoke(*id).await),
        Step::Watch(range, revision) => {
            let mut stream = watch(kv, range.clone(), Some(*revision)).await;
            // A watch that starts in the future answers no request for progress.
            if *revision > kv.current_revision() + 1 {
                String::new()
            } else {
                format!("{:?}", drain(&mut stream).await)
            }
        }
        Step::LeaseStatus(id) => format!(
            "{:?}",
            kv.lease_status(*id)
                .await
                .map(|lease| (lease.granted_ttl, lease.keys))
        ),
        // Their order is that of their ends, which a restart moves.
        Step::Leases => format!("{:?}", kv.leases().await.map(BTreeSet::from_iter)),
    }
}

/// Longer than a test.
const LEASE_TTL: Duration = Duration::from_hours(1);

/// Everything a reader can learn from a store.
pub(crate) async fn everything(kv: &dyn Kv) -> String {
    let status = kv.status().await.expect("a status");
    let all = kv
        .range(RangeRequest::newest(KeyRange::prefix("")))
        .await
        .expect("everything");
    let mut lines = vec![format!(
        "{} {} {}",
        status.revision,
        status.compact_revision,
        range(&all)
    )];
    for revision in status.compact_revision.max(1)..=status.revision {
        let request = RangeRequest {
            revision: Some(revision),
            ..RangeRequest::newest(KeyRange::prefix(""))
        };
        lines.push(format!(
            "{:?}",
            kv.range(request).await.map(|answer| range(&answer))
        ));
    }
    lines.extend(
        drain(
            &mut watch(
                kv,
                KeyRange::prefix(""),
                Some(status.compact_revision.max(1)),
            )
            .await,
        )
        .await,
    );
    lines.push(format!("{:?}", kv.leases().await.map(BTreeSet::from_iter)));
    for revision in [
        None,
        Some(status.compact_revision),
        Some(status.revision / 2),
    ] {
        lines.push(format!("{:?}", kv.hash_kv(revision).await));
    }
    lines.join("\n")
}

fn transaction(answer: &TxnResponse) -> String {
    let results: Vec<_> = answer.results.iter().map(result).collect();
    format!("{} {} {results:?}", answer.succeeded, answer.revision)
}

fn result(result: &OperationResult) -> String {
    match result {
        OperationResult::Range(answer) => range(answer),
        OperationResult::Put {
            entry: new,
            previous,
        } => {
            format!("{} was {:?}", entry(new), previous.as_ref().map(entry))
        }
        OperationResult::Delete { previous } => format!(
            "deleted {:?}",
            previous.iter().map(entry).collect::<Vec<_>>()
        ),
        OperationResult::Txn(inner) => transaction(inner),
    }
}

fn range(answer: &RangeResponse) -> String {
    let entries: Vec<_> = answer.entries.iter().map(entry).collect();
    format!("{} {} {entries:?}", answer.revision, answer.count)
}

fn entry(entry: &Arc<Entry>) -> String {
    let (key, value) = (
        String::from_utf8_lossy(&entry.key),
        String::from_utf8_lossy(&entry.value),
    );
    format!(
        "{key}={value} {} {} {} {}",
        entry.create_revision, entry.mod_revision, entry.version, entry.lease
    )
}

struct Source<'a> {
    numbers: &'a Numbers,
    at: usize,
    revision: Revision,
}

impl Source<'_> {
    fn below(&mut self, bound: u32) -> u32 {
        let number = self.numbers[self.at % NUMBERS];
        self.at += 1;
        number % bound
    }

    fn key(&mut self) -> Vec<u8> {
        let (group, number) = (self.below(3), self.below(8));
        format!("{}{number}", ["a/", "a/b/", "c"][group as usize]).into_bytes()
    }

    fn range(&mut self) -> KeyRange {
        match self.below(5) {
            0 => KeyRange::key(self.key()),
            1 => KeyRange::prefix("a/"),
            2 => KeyRange::prefix("a/b/"),
            3 => KeyRange::from_to(self.key(), Vec::new()),
            _ => KeyRange::from_to(self.key(), self.key()),
        }
    }

    /// Mostly in the recent past, sometimes in the future.
    fn revision(&mut self) -> Revision {
        (self.revision + 2 - Revision::from(self.below(24))).max(0)
    }

    fn lease(&mut self) -> i64 {
        1 + i64::from(self.below(4))
    }

    fn range_request(&mut self) -> RangeRequest {
        let range = self.range();
        let revision = (self.below(2) == 0).then(|| self.revision());
        let limit = if self.below(2) == 0 {
            0
        } else {
            self.below(6) as usize
        };
        let content = if self.below(5) == 0 {
            RangeContent::CountOnly
        } else {
            RangeContent::KeysAndValues
        };
        RangeRequest {
            range,
            revision,
            limit,
            content,
        }
    }

    fn txn(&mut self, nested: u32) -> Txn {
        let compares = (0..self.below(3)).map(|_| self.compare()).collect();
        let success = (0..=self.below(3))
            .map(|_| self.operation(nested))
            .collect();
        let failure = (0..self.below(2)).map(|_| self.operation(nested)).collect();
        Txn {
            compares,
            success,
            failure,
        }
    }

    fn compare(&mut self) -> Compare {
        let range = if self.below(3) == 0 {
            self.range()
        } else {
            KeyRange::key(self.key())
        };
        let target = match self.below(6) {
            0 | 5 => CompareTarget::ModRevision(if self.below(2) == 0 {
                0
            } else {
                self.revision()
            }),
            1 => CompareTarget::CreateRevision(self.revision()),
            2 => CompareTarget::Version(i64::from(self.below(3))),
            3 => CompareTarget::Lease(self.lease()),
            _ => CompareTarget::Value(self.value().to_vec()),
        };
        let operators = [
            CompareOperator::Equal,
            CompareOperator::NotEqual,
            CompareOperator::Greater,
            CompareOperator::Less,
        ];
        Compare {
            range,
            target,
            operator: operators[self.below(4) as usize],
        }
    }

    fn operation(&mut self, nested: u32) -> Operation {
        match self.below(10) {
            3 if nested > 0 => Operation::Txn(self.txn(nested - 1)),
            4 => Operation::Update {
                key: self.key(),
                value: (self.below(2) == 0).then(|| self.value()),
                lease: (self.below(2) == 0).then(|| i64::from(self.below(4))),
            },
            0 | 1 => Operation::DeleteRange(self.range()),
            2 => Operation::Range(self.range_request()),
            _ => {
                let lease = if self.below(4) == 0 { self.lease() } else { 0 };
                Operation::Put {
                    key: self.key(),
                    value: self.value(),
                    lease,
                }
            }
        }
    }

    fn value(&mut self) -> Arc<[u8]> {
        Arc::from(self.below(1000).to_string().into_bytes())
    }
}

//! Transactions of every shape: nested, with all kinds of conditions, valid and not.

use etcd_testing::pb;
use etcd_testing::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_testing::pb::request_op::Request as Operation;
use fastrand::Rng;

use crate::generate::Known;
use crate::words;

/// Transactions within transactions within the outermost one.
const DEPTH_MAX: u32 = 3;
/// Operations of a branch, usually.
const OPERATIONS_MAX: usize = 6;
const COMPARES_MAX: usize = 3;
/// More than etcd takes.
const TOO_MANY: usize = 129;

/// What its operations may be.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    ReadOnly,
    Any,
}

pub(crate) fn txn(rng: &mut Rng, known: &Known, kind: Kind) -> pb::TxnRequest {
    if rng.u16(..2000) == 0 {
        return too_long(rng, known);
    }
    let updates = rng.bool();
    let maker = Maker {
        known,
        kind,
        updates,
    };
    maker.txn(rng, 0)
}

fn too_long(rng: &mut Rng, known: &Known) -> pb::TxnRequest {
    let length = TOO_MANY - rng.usize(..=1);
    let maker = Maker {
        known,
        kind: Kind::ReadOnly,
        updates: false,
    };
    let mut txn = pb::TxnRequest::default();
    match rng.u8(..3) {
        0 => txn.compare = (0..length).map(|_| compare(rng, known)).collect(),
        1 => {
            txn.success = (0..length)
                .map(|_| maker.operation(rng, DEPTH_MAX))
                .collect();
        }
        _ => {
            txn.failure = (0..length)
                .map(|_| maker.operation(rng, DEPTH_MAX))
                .collect();
        }
    }
    txn
}

struct Maker<'a> {
    known: &'a Known,
    kind: Kind,
    /// Whether puts may keep a value or a lease; else deletes may reach to the last key. Both in one transaction can end an etcd.
    updates: bool,
}

impl Maker<'_> {
    fn txn(&self, rng: &mut Rng, depth: u32) -> pb::TxnRequest {
        let compares = rng.usize(..=COMPARES_MAX).min(rng.usize(..=COMPARES_MAX));
        let (success, failure) = (
            rng.usize(..=OPERATIONS_MAX),
            rng.usize(..=OPERATIONS_MAX / 2),
        );
        pb::TxnRequest {
            compare: (0..compares).map(|_| compare(rng, self.known)).collect(),
            success: (0..success).map(|_| self.operation(rng, depth)).collect(),
            failure: (0..failure).map(|_| self.operation(rng, depth)).collect(),
        }
    }

    fn operation(&self, rng: &mut Rng, depth: u32) -> pb::RequestOp {
        let kinds = if self.kind == Kind::ReadOnly { 4 } else { 12 };
        let request = match rng.u8(..kinds) {
            0 if depth < DEPTH_MAX => Operation::RequestTxn(self.txn(rng, depth + 1)),
            0..4 => Operation::RequestRange(self.known.range(rng)),
            4..10 => Operation::RequestPut(self.put(rng)),
            _ => Operation::RequestDeleteRange(self.delete(rng)),
        };
        pb::RequestOp {
            request: (rng.u16(..5000) != 0).then_some(request),
        }
    }

    fn put(&self, rng: &mut Rng) -> pb::PutRequest {
        let put = self.known.put(rng);
        pb::PutRequest {
            ignore_value: put.ignore_value && self.updates,
            ignore_lease: put.ignore_lease && self.updates,
            ..put
        }
    }

    fn delete(&self, rng: &mut Rng) -> pb::DeleteRangeRequest {
        let mut delete = self.known.delete(rng);
        if self.updates && delete.range_end == [0] {
            delete.range_end.clear();
        }
        delete
    }
}

fn compare(rng: &mut Rng, known: &Known) -> pb::Compare {
    let targets = [
        CompareTarget::Version,
        CompareTarget::Create,
        CompareTarget::Mod,
        CompareTarget::Value,
        CompareTarget::Lease,
    ];
    let results = [
        CompareResult::Equal,
        CompareResult::NotEqual,
        CompareResult::Greater,
        CompareResult::Less,
    ];
    let target = targets[rng.usize(..targets.len())];
    let key = words::key_or_none(rng);
    let range_end = if rng.u8(..4) == 0 {
        words::end(rng, &key)
    } else {
        Vec::new()
    };
    // Rarely the value of another target, or none.
    let of = if rng.u8(..50) == 0 {
        targets[rng.usize(..targets.len())]
    } else {
        target
    };
    let union = match of {
        CompareTarget::Version => TargetUnion::Version(rng.i64(-1..4)),
        CompareTarget::Create => TargetUnion::CreateRevision(known.condition_revision(rng)),
        CompareTarget::Mod => TargetUnion::ModRevision(known.condition_revision(rng)),
        CompareTarget::Value => TargetUnion::Value(words::small_value(rng)),
        CompareTarget::Lease => TargetUnion::Lease(known.lease(rng)),
    };
    pb::Compare {
        result: results[rng.usize(..results.len())].into(),
        target: target.into(),
        key,
        target_union: (rng.u8(..50) != 0).then_some(union),
        range_end,
    }
}

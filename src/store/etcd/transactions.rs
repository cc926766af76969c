//! Transactions: what the store is asked to do, and what is answered.

use std::sync::Arc;

use kv::{
    Compare, CompareOperator, CompareTarget, OPERATIONS_MAX, Operation, OperationResult, Revision,
    Txn,
};

use crate::core::inner_header;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget as PbTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request as PbRequest;
use crate::proto::etcdserverpb::response_op::Response as PbResponse;
use crate::ranges::{self, key_range, key_value};
use crate::status::Refusal;

pub(crate) fn check(request: &pb::TxnRequest) -> Result<(), Refusal> {
    check_within(request, OPERATIONS_MAX)
}

/// A transaction in a transaction may only be as long as the outer one leaves room for.
fn check_within(request: &pb::TxnRequest, operations_max: usize) -> Result<(), Refusal> {
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let left = operations_max
        .checked_sub(longest)
        .ok_or(Refusal::TooManyOperations)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Refusal::EmptyKey);
    }
    for operation in request.success.iter().chain(&request.failure) {
        match operation.request.as_ref() {
            Some(PbRequest::RequestRange(range)) => ranges::check(range)?,
            Some(PbRequest::RequestPut(put)) => check_put(put)?,
            Some(PbRequest::RequestDeleteRange(delete)) => check_delete(delete)?,
            Some(PbRequest::RequestTxn(inner)) => check_within(inner, left)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

pub(crate) fn check_put(request: &pb::PutRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        Err(Refusal::EmptyKey)
    } else if request.ignore_value && !request.value.is_empty() {
        Err(Refusal::ValueProvided)
    } else if request.ignore_lease && request.lease != 0 {
        Err(Refusal::LeaseProvided)
    } else {
        Ok(())
    }
}

pub(crate) fn check_delete(request: &pb::DeleteRangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        Err(Refusal::EmptyKey)
    } else {
        Ok(())
    }
}

/// What the store is asked.
pub(crate) fn asked(request: &pb::TxnRequest) -> Result<Txn, Refusal> {
    Ok(Txn {
        compares: request.compare.iter().filter_map(compare).collect(),
        success: operations(&request.success)?,
        failure: operations(&request.failure)?,
    })
}

fn operations(requests: &[pb::RequestOp]) -> Result<Vec<Operation>, Refusal> {
    requests
        .iter()
        .map(|operation| match operation.request.as_ref() {
            Some(PbRequest::RequestRange(range)) => Ok(Operation::Range(ranges::asked(range))),
            Some(PbRequest::RequestPut(request)) => Ok(put(request)),
            Some(PbRequest::RequestDeleteRange(request)) => Ok(delete(request)),
            Some(PbRequest::RequestTxn(inner)) => Ok(Operation::Txn(asked(inner)?)),
            None => Err(Refusal::KeyNotFound),
        })
        .collect()
}

pub(crate) fn put(request: &pb::PutRequest) -> Operation {
    let key = request.key.clone();
    let value = || Arc::from(request.value.as_slice());
    if request.ignore_value || request.ignore_lease {
        Operation::Update {
            key,
            value: (!request.ignore_value).then(value),
            lease: (!request.ignore_lease).then_some(request.lease),
        }
    } else {
        Operation::Put {
            key,
            value: value(),
            lease: request.lease,
        }
    }
}

pub(crate) fn delete(request: &pb::DeleteRangeRequest) -> Operation {
    Operation::DeleteRange(key_range(&request.key, &request.range_end))
}

/// A target without its value is compared with zero, or with nothing. `None`: a condition that always holds.
fn compare(compare: &pb::Compare) -> Option<Compare> {
    let condition = |target, operator| Compare {
        range: key_range(&compare.key, &compare.range_end),
        target,
        operator,
    };
    let operator = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => CompareOperator::Equal,
        Ok(CompareResult::Greater) => CompareOperator::Greater,
        Ok(CompareResult::Less) => CompareOperator::Less,
        Ok(CompareResult::NotEqual) => CompareOperator::NotEqual,
        // As in etcd, a comparison that nobody knows holds, but one with a missing value.
        Err(_) if compare.target() == PbTarget::Value => {
            return Some(condition(
                CompareTarget::Version(0),
                CompareOperator::Greater,
            ));
        }
        Err(_) => return None,
    };
    match target(compare) {
        Some(target) => Some(condition(target, operator)),
        // As in etcd, a target that nobody knows is equal to whatever it is compared with.
        None if operator == CompareOperator::Equal => None,
        None => Some(condition(CompareTarget::Version(0), CompareOperator::Less)),
    }
}

fn target(compare: &pb::Compare) -> Option<CompareTarget> {
    let union = compare.target_union.as_ref();
    let target = PbTarget::try_from(compare.target).ok()?;
    Some(match (target, union) {
        (PbTarget::Version, Some(TargetUnion::Version(version))) => {
            CompareTarget::Version(*version)
        }
        (PbTarget::Version, _) => CompareTarget::Version(0),
        (PbTarget::Create, Some(TargetUnion::CreateRevision(revision))) => {
            CompareTarget::CreateRevision(*revision)
        }
        (PbTarget::Create, _) => CompareTarget::CreateRevision(0),
        (PbTarget::Mod, Some(TargetUnion::ModRevision(revision))) => {
            CompareTarget::ModRevision(*revision)
        }
        (PbTarget::Mod, _) => CompareTarget::ModRevision(0),
        (PbTarget::Value, Some(TargetUnion::Value(value))) => CompareTarget::Value(value.clone()),
        (PbTarget::Value, _) => CompareTarget::Value(Vec::new()),
        (PbTarget::Lease, Some(TargetUnion::Lease(lease))) => CompareTarget::Lease(*lease),
        (PbTarget::Lease, _) => CompareTarget::Lease(0),
    })
}

/// What is answered; the caller writes the header.
pub(crate) fn answer(request: &pb::TxnRequest, done: kv::TxnResponse) -> pb::TxnResponse {
    let wrote = done.results.iter().any(writes);
    let mut answers = Answers {
        revision_before: done.revision - Revision::from(wrote),
        wrote: false,
    };
    answers.txn(request, done)
}

fn writes(result: &OperationResult) -> bool {
    match result {
        OperationResult::Range(_) => false,
        OperationResult::Put { .. } => true,
        OperationResult::Delete { previous } => !previous.is_empty(),
        OperationResult::Txn(inner) => inner.results.iter().any(writes),
    }
}

/// The answers of one transaction, in the order of its operations.
struct Answers {
    revision_before: Revision,
    wrote: bool,
}

impl Answers {
    fn txn(&mut self, request: &pb::TxnRequest, done: kv::TxnResponse) -> pb::TxnResponse {
        let requests = if done.succeeded {
            &request.success
        } else {
            &request.failure
        };
        let one = |(request, result): (&pb::RequestOp, OperationResult)| pb::ResponseOp {
            response: request
                .request
                .as_ref()
                .and_then(|request| self.one(request, result)),
        };
        pb::TxnResponse {
            // etcd gives an inner transaction a header without a revision.
            header: inner_header(0),
            succeeded: done.succeeded,
            responses: requests.iter().zip(done.results).map(one).collect(),
        }
    }

    fn one(&mut self, request: &PbRequest, result: OperationResult) -> Option<PbResponse> {
        self.wrote |= writes(&result) && !matches!(result, OperationResult::Txn(_));
        let header = inner_header(self.revision_before + Revision::from(self.wrote));
        Some(match (request, result) {
            (PbRequest::RequestRange(request), OperationResult::Range(found)) => {
                PbResponse::ResponseRange(ranges::answer(request, found, header))
            }
            (PbRequest::RequestPut(request), OperationResult::Put { previous, .. }) => {
                PbResponse::ResponsePut(pb::PutResponse {
                    header,
                    prev_kv: previous
                        .filter(|_| request.prev_kv)
                        .map(|entry| key_value(&entry)),
                })
            }
            (PbRequest::RequestDeleteRange(request), OperationResult::Delete { previous }) => {
                PbResponse::ResponseDeleteRange(deleted(request, &previous, header))
            }
            (PbRequest::RequestTxn(request), OperationResult::Txn(inner)) => {
                PbResponse::ResponseTxn(self.txn(request, inner))
            }
            _ => return None,
        })
    }
}

pub(crate) fn deleted(
    request: &pb::DeleteRangeRequest,
    previous: &[Arc<kv::Entry>],
    header: Option<pb::ResponseHeader>,
) -> pb::DeleteRangeResponse {
    let shown = if request.prev_kv { previous } else { &[] };
    pb::DeleteRangeResponse {
        header,
        deleted: i64::try_from(previous.len()).expect("a count of keys fits 63 bits"),
        prev_kvs: shown.iter().map(|entry| key_value(entry)).collect(),
    }
}

/// A transaction of one operation.
pub(crate) fn single(operation: Operation) -> Txn {
    Txn {
        success: vec![operation],
        ..Txn::default()
    }
}

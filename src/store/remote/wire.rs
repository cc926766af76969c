//! Between the words of [`kv`] and those on the wire. Previous values are always asked for: without them nobody knows what a put made.

use std::sync::{Arc, OnceLock};

use etcd::proto::etcdserverpb as pb;
use etcd::proto::etcdserverpb::compare::{CompareResult, CompareTarget as PbTarget, TargetUnion};
use etcd::proto::etcdserverpb::request_op::Request as PbRequest;
use etcd::proto::etcdserverpb::response_op::Response as PbResponse;
use etcd::proto::mvccpb::KeyValue;
use kv::{
    Compare, CompareOperator, CompareTarget, Entry, Error, KeyRange, Operation, OperationResult,
    RangeContent, RangeRequest, RangeResponse, Result, Revision, Txn, TxnResponse,
};

use crate::seals::Seals;

/// What etcd calls the end of a range.
pub(crate) fn range_end(range: &KeyRange) -> Vec<u8> {
    match &range.end {
        None => Vec::new(),
        Some(end) if end.is_empty() => vec![0],
        Some(end) => end.clone(),
    }
}

/// The start of a range; etcd has no empty key, and the first one that there can be is this.
pub(crate) fn range_start(range: &KeyRange) -> Vec<u8> {
    if range.start.is_empty() && range.end.is_some() {
        vec![0]
    } else {
        range.start.clone()
    }
}

pub(crate) fn range_request(request: &RangeRequest) -> pb::RangeRequest {
    pb::RangeRequest {
        key: range_start(&request.range),
        range_end: range_end(&request.range),
        limit: i64::try_from(request.limit).unwrap_or(i64::MAX),
        revision: request.revision.unwrap_or(0),
        count_only: request.content == RangeContent::CountOnly,
        ..pb::RangeRequest::default()
    }
}

/// A transaction that is sealed where it must be.
pub(crate) fn txn_request(txn: &Txn, seals: &Seals) -> Result<pb::TxnRequest> {
    Ok(pb::TxnRequest {
        compare: txn
            .compares
            .iter()
            .map(|one| compare(one, seals))
            .collect::<Result<_>>()?,
        success: operations(&txn.success, seals)?,
        failure: operations(&txn.failure, seals)?,
    })
}

fn operations(operations: &[Operation], seals: &Seals) -> Result<Vec<pb::RequestOp>> {
    operations
        .iter()
        .map(|operation| {
            Ok(pb::RequestOp {
                request: Some(request(operation, seals)?),
            })
        })
        .collect()
}

fn request(operation: &Operation, seals: &Seals) -> Result<PbRequest> {
    Ok(match operation {
        Operation::Range(request) => PbRequest::RequestRange(range_request(request)),
        Operation::Put { key, value, lease } => PbRequest::RequestPut(pb::PutRequest {
            key: key.clone(),
            value: seals.seal(key, value),
            lease: *lease,
            prev_kv: true,
            ..pb::PutRequest::default()
        }),
        Operation::Update {
            value: Some(_),
            lease: Some(_),
            ..
        } => {
            return Err(Error::Unsupported(
                "etcd cannot put a value and a lease only where there is a key already: compare its version in the same transaction",
            ));
        }
        Operation::Update { key, value, lease } => PbRequest::RequestPut(pb::PutRequest {
            key: key.clone(),
            value: value
                .as_ref()
                .map_or_else(Vec::new, |value| seals.seal(key, value)),
            lease: lease.unwrap_or(0),
            prev_kv: true,
            ignore_value: value.is_none(),
            ignore_lease: lease.is_none(),
        }),
        Operation::DeleteRange(range) => PbRequest::RequestDeleteRange(pb::DeleteRangeRequest {
            key: range_start(range),
            range_end: range_end(range),
            prev_kv: true,
        }),
        Operation::Txn(txn) => PbRequest::RequestTxn(txn_request(txn, seals)?),
    })
}

fn compare(compare: &Compare, seals: &Seals) -> Result<pb::Compare> {
    let (target, union) = match &compare.target {
        CompareTarget::Version(version) => (PbTarget::Version, TargetUnion::Version(*version)),
        CompareTarget::CreateRevision(revision) => {
            (PbTarget::Create, TargetUnion::CreateRevision(*revision))
        }
        CompareTarget::ModRevision(revision) => {
            (PbTarget::Mod, TargetUnion::ModRevision(*revision))
        }
        CompareTarget::Lease(lease) => (PbTarget::Lease, TargetUnion::Lease(*lease)),
        CompareTarget::Value(_) if seals.touches(&compare.range) => {
            return Err(Error::Unsupported(
                "the values of sealed keys cannot be compared in an etcd cluster: it only knows them encrypted",
            ));
        }
        CompareTarget::Value(value) => (PbTarget::Value, TargetUnion::Value(value.clone())),
    };
    let result = match compare.operator {
        CompareOperator::Equal => CompareResult::Equal,
        CompareOperator::NotEqual => CompareResult::NotEqual,
        CompareOperator::Greater => CompareResult::Greater,
        CompareOperator::Less => CompareResult::Less,
    };
    Ok(pb::Compare {
        result: result.into(),
        target: target.into(),
        key: range_start(&compare.range),
        range_end: range_end(&compare.range),
        target_union: Some(union),
    })
}

/// An entry as it was before it was sent.
pub(crate) fn entry(found: KeyValue, seals: &Seals) -> Arc<Entry> {
    let value = seals.open(&found.key, found.value);
    Arc::new(Entry {
        value,
        key: found.key.into(),
        create_revision: found.create_revision,
        mod_revision: found.mod_revision,
        version: found.version,
        lease: found.lease,
        memo: OnceLock::new(),
    })
}

pub(crate) fn range_response(
    answer: pb::RangeResponse,
    revision: Revision,
    seals: &Seals,
) -> RangeResponse {
    RangeResponse {
        revision,
        entries: answer.kvs.into_iter().map(|kv| entry(kv, seals)).collect(),
        count: usize::try_from(answer.count).unwrap_or_default(),
    }
}

/// What a transaction did, with the entries that it made.
pub(crate) fn txn_response(
    txn: &Txn,
    answer: pb::TxnResponse,
    seals: &Seals,
) -> Result<TxnResponse> {
    let revision = header_revision(answer.header.as_ref());
    let wrote = answer.responses.iter().any(writes);
    let mut reader = Reader {
        seals,
        before: revision - Revision::from(wrote),
        wrote: false,
    };
    reader.txn(txn, answer)
}

pub(crate) fn header_revision(header: Option<&pb::ResponseHeader>) -> Revision {
    header.map_or(0, |header| header.revision)
}

fn writes(response: &pb::ResponseOp) -> bool {
    match &response.response {
        Some(PbResponse::ResponsePut(_)) => true,
        Some(PbResponse::ResponseDeleteRange(deleted)) => deleted.deleted > 0,
        Some(PbResponse::ResponseTxn(inner)) => inner.responses.iter().any(writes),
        Some(PbResponse::ResponseRange(_)) | None => false,
    }
}

/// Goes through the answers in the order in which they were made.
struct Reader<'a> {
    seals: &'a Seals,
    before: Revision,
    wrote: bool,
}

impl Reader<'_> {
    fn revision(&self) -> Revision {
        self.before + Revision::from(self.wrote)
    }

    fn txn(&mut self, txn: &Txn, answer: pb::TxnResponse) -> Result<TxnResponse> {
        let operations = if answer.succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        if operations.len() != answer.responses.len() {
            return Err(odd());
        }
        let mut results = Vec::with_capacity(operations.len());
        for (operation, response) in operations.iter().zip(answer.responses) {
            results.push(self.one(operation, response)?);
        }
        Ok(TxnResponse {
            succeeded: answer.succeeded,
            revision: self.revision(),
            results,
        })
    }

    fn one(&mut self, operation: &Operation, response: pb::ResponseOp) -> Result<OperationResult> {
        self.wrote |=
            writes(&response) && !matches!(response.response, Some(PbResponse::ResponseTxn(_)));
        let response = response.response.ok_or_else(odd)?;
        Ok(match (operation, response) {
            (Operation::Range(_), PbResponse::ResponseRange(found)) => {
                OperationResult::Range(range_response(found, self.revision(), self.seals))
            }
            (Operation::Put { key, value, lease }, PbResponse::ResponsePut(answer)) => {
                let previous = self.previous(answer);
                self.put(key, Arc::clone(value), *lease, previous)
            }
            (Operation::Update { key, value, lease }, PbResponse::ResponsePut(answer)) => {
                let previous = self.previous(answer).ok_or_else(odd)?;
                let value = Arc::clone(value.as_ref().unwrap_or(&previous.value));
                let lease = lease.unwrap_or(previous.lease);
                self.put(key, value, lease, Some(previous))
            }
            (Operation::DeleteRange(_), PbResponse::ResponseDeleteRange(answer)) => {
                let previous = answer.prev_kvs.into_iter();
                OperationResult::Delete {
                    previous: previous.map(|kv| entry(kv, self.seals)).collect(),
                }
            }
            (Operation::Txn(txn), PbResponse::ResponseTxn(answer)) => {
                OperationResult::Txn(self.txn(txn, answer)?)
            }
            _ => return Err(odd()),
        })
    }

    fn previous(&self, answer: pb::PutResponse) -> Option<Arc<Entry>> {
        answer.prev_kv.map(|kv| entry(kv, self.seals))
    }

    fn put(
        &self,
        key: &[u8],
        value: Arc<[u8]>,
        lease: i64,
        previous: Option<Arc<Entry>>,
    ) -> OperationResult {
        let revision = self.revision();
        let entry = Arc::new(Entry {
            key: key.into(),
            value,
            create_revision: previous
                .as_ref()
                .map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(1, |old| old.version + 1),
            lease,
            memo: OnceLock::new(),
        });
        OperationResult::Put { entry, previous }
    }
}

fn odd() -> Error {
    Error::Unavailable("etcd's answer does not fit the transaction".to_owned())
}

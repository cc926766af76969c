//! What a stream is made of.

use etcd_testing::pb;

/// A call that is answered once.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    Grant(pb::LeaseGrantRequest),
    Revoke(pb::LeaseRevokeRequest),
    KeepAlive(pb::LeaseKeepAliveRequest),
    TimeToLive(pb::LeaseTimeToLiveRequest),
    Leases,
    Hash(pb::HashKvRequest),
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Calls of which none changes what another one answers: they are under way at the same time.
    Together(Vec<Request>),
    /// A watch on the stream with this number.
    Watch(usize, pb::WatchCreateRequest),
    /// The end of a watch of a stream.
    Cancel(usize, i64),
    /// All events that are due must be there.
    Settle,
    /// Leases with these ids and the shortest life, and the wait for their end.
    Expire(i64),
    /// The servers stop and start again on what they stored.
    Restart,
}

impl Step {
    pub(crate) fn one(request: Request) -> Self {
        Self::Together(vec![request])
    }

    /// Calls in it.
    pub(crate) fn requests(&self) -> u64 {
        match self {
            Self::Together(requests) => requests.len() as u64,
            _ => 1,
        }
    }

    /// Calls, and operations and conditions within transactions.
    pub(crate) fn operations(&self) -> u64 {
        match self {
            Self::Together(requests) => requests.iter().map(Request::operations).sum(),
            _ => 1,
        }
    }

    /// The same, one call at a time.
    pub(crate) fn apart(self) -> Vec<Self> {
        match self {
            Self::Together(requests) => requests.into_iter().map(Self::one).collect(),
            step => vec![step],
        }
    }
}

impl Request {
    fn operations(&self) -> u64 {
        match self {
            Self::Txn(txn) => operations(txn),
            _ => 1,
        }
    }
}

fn operations(txn: &pb::TxnRequest) -> u64 {
    let inner = |operation: &pb::RequestOp| match &operation.request {
        Some(pb::request_op::Request::RequestTxn(inner)) => operations(inner),
        _ => 1,
    };
    let branches = txn.success.iter().chain(&txn.failure);
    1 + txn.compare.len() as u64 + branches.map(inner).sum::<u64>()
}

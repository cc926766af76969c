//! Answers, without what may differ between servers: who they are, the time that a lease has left, and the order of what a sort finds equal.

use std::cmp::Ordering;

use etcd_testing::pb;
use etcd_testing::pb::range_request::{SortOrder, SortTarget};
use etcd_testing::pb::request_op::Request as Operation;
use etcd_testing::pb::response_op::Response as Done;
use etcd_testing::{Client, mvccpb};
use futures_util::stream;
use tonic::{Code, Status};

use crate::steps::Request;

/// A lease's remaining time may be this much below its whole.
const ELAPSED_SECONDS_MAX: i64 = 600;

#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    Delete(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    Grant(pb::LeaseGrantResponse),
    Revoke(pb::LeaseRevokeResponse),
    KeepAlive(pb::LeaseKeepAliveResponse),
    TimeToLive(pb::LeaseTimeToLiveResponse),
    Leases(pb::LeaseLeasesResponse),
    Hash(pb::HashKvResponse),
    Refused(Code, String),
}

impl Answer {
    pub(crate) async fn to(request: &Request, client: &Client) -> Self {
        Self::fetch(request, client)
            .await
            .unwrap_or_else(|status| Self::Refused(status.code(), status.message().to_owned()))
    }

    async fn fetch(request: &Request, client: &Client) -> Result<Self, Status> {
        Ok(match request {
            Request::Range(request) => {
                let mut answer = client.call(request.clone()).await?;
                normal_range(request, &mut answer);
                Self::Range(answer)
            }
            Request::Put(request) => {
                let mut answer = client.call(request.clone()).await?;
                normal_header(&mut answer.header);
                Self::Put(answer)
            }
            Request::Delete(request) => {
                let mut answer = client.call(request.clone()).await?;
                normal_header(&mut answer.header);
                Self::Delete(answer)
            }
            Request::Txn(request) => {
                let mut answer = client.call(request.clone()).await?;
                normal_txn(request, &mut answer);
                Self::Txn(answer)
            }
            Request::Compact(request) => {
                let mut answer = client.call(*request).await?;
                normal_header(&mut answer.header);
                Self::Compact(answer)
            }
            Request::Hash(request) => {
                let mut answer = client.call(*request).await?;
                normal_header(&mut answer.header);
                Self::Hash(answer)
            }
            lease => Self::fetch_lease(lease, client).await?,
        })
    }

    async fn fetch_lease(request: &Request, client: &Client) -> Result<Self, Status> {
        Ok(match request {
            Request::Grant(request) => {
                let mut answer = client.call(*request).await?;
                normal_header(&mut answer.header);
                Self::Grant(answer)
            }
            Request::Revoke(request) => {
                let mut answer = client.call(*request).await?;
                normal_header(&mut answer.header);
                Self::Revoke(answer)
            }
            Request::KeepAlive(request) => {
                let mut answers = client.stream(stream::iter([*request]));
                let mut answer = answers.recv().await.unwrap_or(Ok(Default::default()))?;
                normal_header(&mut answer.header);
                Self::KeepAlive(answer)
            }
            Request::TimeToLive(request) => {
                let mut answer = client.call(*request).await?;
                normal_header(&mut answer.header);
                if answer.granted_ttl - answer.ttl < ELAPSED_SECONDS_MAX {
                    answer.ttl = answer.ttl.min(1);
                }
                answer.keys.sort();
                Self::TimeToLive(answer)
            }
            _ => {
                let mut answer = client.call(pb::LeaseLeasesRequest {}).await?;
                normal_header(&mut answer.header);
                answer.leases.sort_by_key(|lease| lease.id);
                Self::Leases(answer)
            }
        })
    }

    /// The store's revision at the answer.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Self::Range(answer) => answer.header,
            Self::Put(answer) => answer.header,
            Self::Delete(answer) => answer.header,
            Self::Txn(answer) => answer.header,
            Self::Compact(answer) => answer.header,
            Self::Grant(answer) => answer.header,
            Self::Revoke(answer) => answer.header,
            Self::KeepAlive(answer) => answer.header,
            Self::TimeToLive(answer) => answer.header,
            Self::Leases(answer) => answer.header,
            Self::Hash(answer) => answer.header,
            Self::Refused(..) => None,
        };
        header.map(|header| header.revision)
    }
}

pub(crate) fn normal_header(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
}

fn normal_txn(request: &pb::TxnRequest, answer: &mut pb::TxnResponse) {
    normal_header(&mut answer.header);
    let operations = if answer.succeeded {
        &request.success
    } else {
        &request.failure
    };
    for (operation, done) in operations.iter().zip(&mut answer.responses) {
        match (&operation.request, &mut done.response) {
            (Some(Operation::RequestRange(request)), Some(Done::ResponseRange(answer))) => {
                normal_range(request, answer);
            }
            (Some(Operation::RequestTxn(request)), Some(Done::ResponseTxn(answer))) => {
                normal_txn(request, answer);
            }
            _ => {}
        }
    }
}

fn normal_range(request: &pb::RangeRequest, answer: &mut pb::RangeResponse) {
    normal_header(&mut answer.header);
    let target = request.sort_target();
    if target == SortTarget::Key {
        return;
    }
    let descends = request.sort_order() == SortOrder::Descend;
    let compare = |left: &mvccpb::KeyValue, right: &mvccpb::KeyValue| {
        let ordering = by_target(target, left, right);
        if descends {
            ordering.reverse()
        } else {
            ordering
        }
    };
    if !answer
        .kvs
        .is_sorted_by(|left, right| compare(left, right) != Ordering::Greater)
    {
        // As it came: it will differ.
        return;
    }
    // Where the limit cuts among equals, any of them may be there.
    if answer.more
        && let Some(last) = answer.kvs.last().cloned()
    {
        for entry in &mut answer.kvs {
            if by_target(target, entry, &last) == Ordering::Equal {
                *entry = mvccpb::KeyValue::default();
            }
        }
    }
    answer
        .kvs
        .sort_by(|left, right| compare(left, right).then_with(|| left.key.cmp(&right.key)));
}

fn by_target(target: SortTarget, left: &mvccpb::KeyValue, right: &mvccpb::KeyValue) -> Ordering {
    match target {
        SortTarget::Key => left.key.cmp(&right.key),
        SortTarget::Version => left.version.cmp(&right.version),
        SortTarget::Create => left.create_revision.cmp(&right.create_revision),
        SortTarget::Mod => left.mod_revision.cmp(&right.mod_revision),
        SortTarget::Value => left.value.cmp(&right.value),
    }
}

//! The service KV.

use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use kv::{Durability, OperationResult, REQUEST_BYTES_MAX};
use prost::Message;
use tonic::{Request, Response, Status, async_trait};

use crate::core::Core;
use crate::metrics;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::ranges;
use crate::services::Answers;
use crate::status::{Refusal, status};
use crate::transactions;

/// What etcd's log adds to a request, about.
const LOGGED_BYTES: usize = 20;
/// Keys in the first message of a range that comes as a stream; each further one has twice as many, until it is large.
const STREAM_KEYS_FIRST: usize = 10;

/// What a write may be as large as, as etcd counts it: the whole message.
pub(crate) fn check_size(request: &impl Message) -> Result<(), Refusal> {
    if request.encoded_len() + LOGGED_BYTES > REQUEST_BYTES_MAX {
        Err(Refusal::TooLarge)
    } else {
        Ok(())
    }
}

impl Core {
    /// Runs one operation.
    pub(crate) async fn operate(
        &self,
        operation: kv::Operation,
    ) -> Result<(kv::Revision, OperationResult), Status> {
        let done = self.run(transactions::single(operation)).await?;
        let result = done.results.into_iter().next();
        Ok((done.revision, result.expect("one operation has one result")))
    }

    pub(crate) async fn run(&self, txn: kv::Txn) -> Result<kv::TxnResponse, Status> {
        let done = self.kv.txn(txn, Durability::Durable).await;
        let done = done.map_err(status)?;
        self.metrics.count_operations(&done.results);
        Ok(done)
    }
}

#[async_trait]
impl Kv for Core {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        ranges::check(&request)?;
        let found = self.kv.range(ranges::asked(&request)).await;
        let found = found.map_err(status)?;
        metrics::count(&self.metrics.ranges);
        let header = self.header(found.revision);
        Ok(Response::new(ranges::answer(&request, found, header)))
    }

    type RangeStreamStream = Answers<pb::RangeStreamResponse>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let request = request.into_inner();
        ranges::check(&request)?;
        let by_key = request.sort_target() == SortTarget::Key;
        let in_order = request.sort_order() != SortOrder::Descend;
        if !(ranges::is_plain(&request) || by_key && in_order && !ranges::has_filter(&request)) {
            return Err(Status::unimplemented(
                "etcdserver: a stream of a range has no other order than that of keys and no filters",
            ));
        }
        let found = self.kv.range(ranges::asked(&request)).await;
        let found = found.map_err(status)?;
        metrics::count(&self.metrics.ranges);
        Ok(Response::new(Box::pin(chunks(
            self.clone(),
            request,
            found,
        ))))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let request = request.into_inner();
        transactions::check_put(&request)?;
        check_size(&request)?;
        let done = self.kv.txn(
            transactions::single(transactions::put(&request)),
            Durability::Durable,
        );
        let done = match done.await {
            // A put on its own looks for the lease first, one in a transaction for the key.
            Err(kv::Error::KeyNotFound) if request.lease != 0 => {
                self.kv.lease_status(request.lease).await.map_err(status)?;
                return Err(status(kv::Error::KeyNotFound));
            }
            done => done.map_err(status)?,
        };
        let revision = done.revision;
        let previous = match done.results.into_iter().next() {
            Some(OperationResult::Put { previous, .. }) if request.prev_kv => previous,
            _ => None,
        };
        Ok(Response::new(pb::PutResponse {
            header: self.header(revision),
            prev_kv: previous.map(|entry| ranges::key_value(&entry)),
        }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        transactions::check_delete(&request)?;
        check_size(&request)?;
        let (revision, result) = self.operate(transactions::delete(&request)).await?;
        let OperationResult::Delete { previous } = result else {
            unreachable!("a delete is answered as one");
        };
        let header = self.header(revision);
        Ok(Response::new(transactions::deleted(
            &request, &previous, header,
        )))
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        transactions::check(&request)?;
        check_size(&request)?;
        let done = self.run(transactions::asked(&request)?).await?;
        metrics::count(&self.metrics.txns);
        let header = self.header(done.revision);
        Ok(Response::new(pb::TxnResponse {
            header,
            ..transactions::answer(&request, done)
        }))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let request = request.into_inner();
        self.kv.compact(request.revision).await.map_err(status)?;
        if request.physical {
            self.kv.swept().await.map_err(status)?;
        }
        Ok(Response::new(pb::CompactionResponse {
            header: self.header_now(),
        }))
    }
}

/// A range in messages that grow: the last one has the header, the count, and whether there is more.
fn chunks(
    core: Core,
    request: pb::RangeRequest,
    found: kv::RangeResponse,
) -> impl Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send {
    let header = core.header(found.revision);
    let entries = found.entries.clone();
    let last = ranges::answer(
        &pb::RangeRequest {
            count_only: true,
            ..request.clone()
        },
        kv::RangeResponse {
            entries: Vec::new(),
            ..found
        },
        header,
    );
    let limit = usize::try_from(request.limit)
        .ok()
        .filter(|limit| *limit > 0);
    let more = limit.is_some_and(|limit| entries.len() > limit);
    let wanted = limit.unwrap_or(usize::MAX).min(entries.len());
    let begin = Chunks {
        entries,
        wanted,
        sent: 0,
        size: STREAM_KEYS_FIRST,
    };
    stream::unfold(Some(begin), move |chunks| {
        let next = chunks.map(|mut chunks| {
            let kvs = chunks.take(&request);
            let ends = chunks.sent == chunks.wanted;
            let response = pb::RangeResponse {
                kvs,
                ..if ends {
                    pb::RangeResponse {
                        more,
                        ..last.clone()
                    }
                } else {
                    pb::RangeResponse::default()
                }
            };
            (response, (!ends).then_some(chunks))
        });
        std::future::ready(next)
    })
    .map(|response| {
        Ok(pb::RangeStreamResponse {
            range_response: Some(response),
        })
    })
}

struct Chunks {
    entries: Vec<Arc<kv::Entry>>,
    wanted: usize,
    sent: usize,
    /// Keys in the next message, at most.
    size: usize,
}

impl Chunks {
    fn take(&mut self, request: &pb::RangeRequest) -> Vec<crate::proto::mvccpb::KeyValue> {
        let end = self.wanted.min(self.sent + self.size);
        let (mut kvs, mut bytes) = (Vec::new(), 0);
        while self.sent < end && bytes < REQUEST_BYTES_MAX {
            let entry = &self.entries[self.sent];
            bytes += entry.key.len() + entry.value.len();
            kvs.push(ranges::listed(request, entry));
            self.sent += 1;
        }
        if bytes < REQUEST_BYTES_MAX / 2 {
            self.size *= 2;
        }
        kvs
    }
}

//! One watch of etcd on a stream of its own: its events as whole revisions, its progress, and why it ended.

use std::sync::Arc;

use etcd::proto::etcdserverpb as pb;
use etcd::proto::etcdserverpb::watch_request::RequestUnion;
use etcd::proto::mvccpb::event::EventType;
use kv::{KeyRange, Revision};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::client::{CALL_TIME_MAX, Client, with_leader};
use crate::mirror::Change;
use crate::seals::Seals;
use crate::wire::{self, header_revision, range_end, range_start};

/// Requests that wait for the connection; more of them would say the same.
const REQUESTS_MAX: usize = 4;

/// Why a watch ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// What it begins with is compacted.
    Compacted(Revision),
    /// The connection, the member or its leader is gone.
    Lost(String),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Lost(status.message().to_owned())
    }
}

/// What a watch tells.
pub(crate) enum Told {
    /// The changes of whole revisions, each with what was there before, if that was asked for.
    Changes(Vec<(Change, Option<Arc<kv::Entry>>)>),
    /// Everything up to here was told.
    Progress(Revision),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Wanted,
    Known,
}

pub(crate) struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watching {
    /// Begins with the events of `start`.
    pub(crate) async fn begin(
        client: &Client,
        range: &KeyRange,
        start: Revision,
        before: Before,
    ) -> Result<Self, Ended> {
        let create = pb::WatchCreateRequest {
            key: range_start(range),
            range_end: range_end(range),
            start_revision: start,
            prev_kv: before == Before::Wanted,
            ..pb::WatchCreateRequest::default()
        };
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let first = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        requests
            .try_send(first)
            .map_err(|_full| Ended::Lost("the queue of requests is full".to_owned()))?;
        let queue = futures_util::stream::unfold(queue, async |mut queue| {
            queue.recv().await.map(|request| (request, queue))
        });
        let mut watch = client.watch();
        let begun = async {
            let answers = watch.watch(with_leader(queue)).await?.into_inner();
            let mut this = Self { requests, answers };
            match this.answer().await? {
                created if created.created => Ok(this),
                _ => Err(Ended::Lost("etcd did not begin the watch".to_owned())),
            }
        };
        match env::timeout(CALL_TIME_MAX, begun).await {
            Ok(begun) => begun,
            Err(_timed_out) => Err(Ended::Lost(
                "etcd did not begin the watch in time".to_owned(),
            )),
        }
    }

    /// Asks for progress, which comes in order with the events once the watch is in step.
    pub(crate) fn ask_progress(&self) {
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(
                pb::WatchProgressRequest::default(),
            )),
        };
        // A full queue means that such a question is on its way already.
        let _asked = self.requests.try_send(request);
    }

    async fn answer(&mut self) -> Result<pb::WatchResponse, Ended> {
        let answer = self.answers.message().await?;
        let answer = answer.ok_or_else(|| Ended::Lost("the watch ended".to_owned()))?;
        if !answer.canceled {
            return Ok(answer);
        }
        Err(if answer.compact_revision > 0 {
            Ended::Compacted(answer.compact_revision)
        } else {
            Ended::Lost(answer.cancel_reason)
        })
    }

    /// The next thing that it tells. Cancel safe.
    pub(crate) async fn next(&mut self, seals: &Seals) -> Result<Told, Ended> {
        loop {
            let answer = self.answer().await?;
            if answer.created {
                continue;
            }
            if answer.events.is_empty() {
                return Ok(Told::Progress(header_revision(answer.header.as_ref())));
            }
            let changes = answer
                .events
                .into_iter()
                .filter_map(|event| change(event, seals));
            return Ok(Told::Changes(changes.collect()));
        }
    }
}

fn change(
    event: etcd::proto::mvccpb::Event,
    seals: &Seals,
) -> Option<(Change, Option<Arc<kv::Entry>>)> {
    let is_delete = event.r#type() == EventType::Delete;
    let previous = event.prev_kv.map(|kv| wire::entry(kv, seals));
    let found = event.kv?;
    let change = if is_delete {
        Change {
            revision: found.mod_revision,
            key: found.key.into(),
            entry: None,
        }
    } else {
        let entry = wire::entry(found, seals);
        Change {
            revision: entry.mod_revision,
            key: Arc::clone(&entry.key),
            entry: Some(entry),
        }
    };
    Some((change, previous))
}

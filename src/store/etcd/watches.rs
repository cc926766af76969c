//! The service Watch: many watches on one stream.
//!
//! One task for each stream owns its watches and takes its requests; one task for each watch turns the store's messages into answers. All answers of
//! a stream go through one queue. A watch says that it has reached a revision after its events up to there went into the queue, so an answer about
//! all of them is put there last.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream;
use kv::{ProgressRequester, Revision};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::bodies::as_etcd;
use crate::core::Core;
use crate::metrics::Counted;
use crate::outlet::{Gone, Outlet, Said};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::watch_server::Watch;
use crate::ranges::key_range;
use crate::services::Answers;
use crate::status::STOPPED;
use crate::watch_answers::{Forward, Shape};

/// Answers of one stream that wait for its client; then its watches wait, and nobody else.
pub(crate) const ANSWERS_MAX: usize = 16;
/// What watches report to their stream and it has not heard yet.
const NOTES_MAX: usize = 64;
/// Watches on one stream at most.
const WATCHES_MAX: usize = 100_000;
/// Times that all watches are asked for one answer. If there are events in between each time, the client hears those instead, and asks again.
const TRIES_MAX: usize = 8;
/// The id that asks for one.
const AUTOMATIC_ID: i64 = 0;
/// The id of an answer that is about no watch, or about all.
pub(crate) const NO_ID: i64 = -1;

/// What a watch tells its stream.
pub(crate) enum Note {
    /// Everything up to the revision was put into the queue.
    Reached(i64, Revision),
    /// It was told that its history is compacted.
    Ended(i64),
    /// The store closed.
    Closed,
}

#[async_trait]
impl Watch for Core {
    type WatchStream = Answers<pb::WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (answers, mut queue) = mpsc::channel(ANSWERS_MAX);
        let (notes, heard) = mpsc::channel(NOTES_MAX);
        let session = Session {
            _counted: self.metrics.watch_streams.one(),
            core: self.clone(),
            answers: Outlet::new(answers),
            notes,
            watches: BTreeMap::new(),
            next_id: 0,
            round: None,
        };
        env::spawn(session.run(request.into_inner(), heard));
        let queue = stream::poll_fn(move |context| queue.poll_recv(context));
        Ok(Response::new(Box::pin(queue)))
    }
}

type Going = Result<(), Gone>;

struct Session {
    _counted: Counted,
    core: Core,
    answers: Outlet,
    notes: mpsc::Sender<Note>,
    watches: BTreeMap<i64, Running>,
    /// The next id to try for a client that leaves the choice to us.
    next_id: i64,
    round: Option<Round>,
}

struct Running {
    _counted: Counted,
    /// As the client asked; 0 for "from now".
    start_revision: Revision,
    progress: ProgressRequester,
    task: Task,
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The client asked how far all its watches are, and some have not answered.
struct Round {
    waiting: BTreeSet<i64>,
    reached: Revision,
    /// It asked again meanwhile.
    again: bool,
    /// Times that the watches are asked once more if events of later revisions overtake their answers.
    tries_left: usize,
}

impl Session {
    async fn run(
        mut self,
        mut requests: Streaming<pb::WatchRequest>,
        mut heard: mpsc::Receiver<Note>,
    ) {
        loop {
            let going = tokio::select! {
                biased;
                () = self.answers.closed() => return,
                note = heard.recv() => match note {
                    Some(note) => self.hear(note).await,
                    None => return,
                },
                request = requests.message() => match request {
                    Ok(Some(request)) => self.handle(request).await,
                    Ok(None) => return,
                    // A client that sends what is no request is told so.
                    Err(error) => {
                        let error = as_etcd(&error).unwrap_or(error);
                        self.answers.end(error).await;
                        return;
                    }
                },
            };
            if going.is_err() {
                return;
            }
        }
    }

    async fn say(&self, answer: pb::WatchResponse) -> Going {
        self.answers.say(answer).await
    }

    /// An answer about one watch, or about none.
    fn about(&self, id: i64) -> pb::WatchResponse {
        pb::WatchResponse {
            header: self.core.header_now(),
            watch_id: id,
            ..Default::default()
        }
    }

    async fn handle(&mut self, request: pb::WatchRequest) -> Going {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(request).await,
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => {
                self.ask_all(TRIES_MAX);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) -> Going {
        let id = match self.check(&request) {
            Ok(id) => id,
            Err(reason) => {
                return self
                    .say(pb::WatchResponse {
                        created: true,
                        canceled: true,
                        cancel_reason: reason.to_owned(),
                        ..self.about(NO_ID)
                    })
                    .await;
            }
        };
        let revision = self.core.kv.current_revision();
        let start = match request.start_revision {
            // Exactly what the client has not seen when it reads the revision in our answer.
            0 => revision + 1,
            start => start,
        };
        let watch = kv::WatchRequest {
            range: key_range(start_of(&request.key), &request.range_end),
            start_revision: Some(start),
        };
        let Ok(stream) = self.core.kv.watch(watch).await else {
            return self.stop().await;
        };
        let created = pb::WatchResponse {
            header: self.core.header(revision),
            created: true,
            ..self.about(id)
        };
        self.say(created).await?;
        let progress = stream.progress.clone();
        let forward = Forward {
            id,
            core: self.core.clone(),
            shape: Shape::of(&request),
            created: revision,
            messages: stream.messages,
            progress: progress.clone(),
            answers: self.answers.clone(),
            notes: self.notes.clone(),
        };
        let running = Running {
            _counted: self.core.metrics.watchers.one(),
            start_revision: request.start_revision,
            progress,
            task: Task(env::spawn(forward.run())),
        };
        self.join_round(id, &running);
        self.watches.insert(id, running);
        Ok(())
    }

    /// The id of a watch to be, or why there will be none.
    fn check(&mut self, request: &pb::WatchCreateRequest) -> Result<i64, &'static str> {
        if request.start_revision < 0 {
            return Err("etcdserver: mvcc: required revision has been compacted");
        }
        let key = start_of(&request.key);
        if !matches!(request.range_end.as_slice(), [] | [0]) && key >= request.range_end.as_slice()
        {
            return Err("mvcc: watcher range is empty");
        }
        if self.watches.len() >= WATCHES_MAX {
            return Err("etcdserver: too many watches on one stream");
        }
        if request.watch_id != AUTOMATIC_ID {
            return if self.watches.contains_key(&request.watch_id) {
                Err("mvcc: duplicate watch ID provided on the WatchStream")
            } else {
                Ok(request.watch_id)
            };
        }
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    async fn cancel(&mut self, id: i64) -> Going {
        let Some(mut running) = self.watches.remove(&id) else {
            return Ok(());
        };
        running.task.0.abort();
        // Nothing of it follows the answer.
        let _aborted = (&mut running.task.0).await;
        self.say(pb::WatchResponse {
            canceled: true,
            ..self.about(id)
        })
        .await?;
        self.leave_round(id).await
    }

    async fn hear(&mut self, note: Note) -> Going {
        match note {
            Note::Reached(id, revision) => {
                if let Some(round) = &mut self.round
                    && round.waiting.contains(&id)
                {
                    round.reached = round.reached.min(revision);
                }
                self.leave_round(id).await
            }
            Note::Ended(id) => {
                self.watches.remove(&id);
                self.leave_round(id).await
            }
            Note::Closed => self.stop().await,
        }
    }

    async fn stop(&mut self) -> Going {
        self.answers.end(Status::unavailable(STOPPED)).await;
        Err(Gone)
    }

    /// Asks every watch how far it is. As in etcd, there is no answer while one of them starts in the future, or if there is none.
    fn ask_all(&mut self, tries_left: usize) {
        if let Some(round) = &mut self.round {
            round.again = true;
            return;
        }
        let revision = self.core.kv.current_revision();
        let early = |watch: &Running| watch.start_revision > revision;
        if self.watches.is_empty() || self.watches.values().any(early) {
            return;
        }
        for watch in self.watches.values() {
            watch.ask();
        }
        self.round = Some(Round {
            waiting: self.watches.keys().copied().collect(),
            reached: Revision::MAX,
            again: false,
            tries_left,
        });
    }

    /// The answer is about a watch that begins while the others are asked, too.
    fn join_round(&mut self, id: i64, watch: &Running) {
        if watch.start_revision > self.core.kv.current_revision() {
            self.round = None;
        } else if let Some(round) = &mut self.round {
            round.waiting.insert(id);
            watch.ask();
        }
    }

    /// Answers once nobody is waited for.
    async fn leave_round(&mut self, id: i64) -> Going {
        let Some(mut round) = self.round.take() else {
            return Ok(());
        };
        round.waiting.remove(&id);
        if !round.waiting.is_empty() {
            self.round = Some(round);
            return Ok(());
        }
        if round.reached < Revision::MAX && !self.watches.is_empty() {
            let answer = pb::WatchResponse {
                header: self.core.header(round.reached),
                ..self.about(NO_ID)
            };
            let said = self.answers.say_progress(answer).await?;
            if said == Said::TooLate && round.tries_left > 1 {
                self.ask_all(round.tries_left - 1);
                if let Some(next) = &mut self.round {
                    next.again = round.again;
                }
                return Ok(());
            }
        }
        if round.again {
            self.ask_all(TRIES_MAX);
        }
        Ok(())
    }
}

impl Running {
    /// A request that finds no place is not needed: an answer is on its way.
    fn ask(&self) {
        let _on_its_way = self.progress.0.try_send(());
    }
}

/// Where a client names no key, the watch begins at the smallest one.
fn start_of(key: &[u8]) -> &[u8] {
    if key.is_empty() { &[0] } else { key }
}

/// The kinds of events that a client does not want.
pub(crate) fn is_filtered(request: &pb::WatchCreateRequest, filter: FilterType) -> bool {
    request.filters().any(|other| other == filter)
}

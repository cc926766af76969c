//! Watchers: each notes what it hears, and begins again after the last revision it knows whenever its server is gone.

use std::sync::Arc;
use std::time::Duration;

use etcd_testing::pb::watch_request::RequestUnion;
use etcd_testing::{Client, mvccpb, pb};
use futures_util::stream;
use tokio::sync::{mpsc, watch};

use crate::clients::{Phase, Run, everything, server, value};
use crate::history::{Key, name, number};

/// How often a watcher asks how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(40);
const RETRY_AFTER: Duration = Duration::from_millis(2);
/// At the end every watcher is told everything within this time.
const END_TIME_MAX: Duration = Duration::from_secs(20);

/// What became of a key: a value, or nothing.
pub(crate) type Change = (Key, Option<u64>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    /// A watch began; what follows is from this revision on.
    From(i64),
    /// One answer: revisions and changes in its order.
    Events(Vec<(i64, Change)>),
    Progress(i64),
    /// History up to here is gone.
    Compacted(i64),
}

pub(crate) struct Watcher {
    pub(crate) run: Arc<Run>,
    pub(crate) phases: watch::Receiver<Phase>,
    /// One key, or all.
    pub(crate) key: Option<Key>,
    /// What it knows everything up to.
    pub(crate) reached: i64,
    pub(crate) heard: Vec<Heard>,
    /// The revision at which everything is over, once it is known.
    pub(crate) end: watch::Receiver<Option<i64>>,
}

impl Watcher {
    /// Watches until it has heard of everything; errors if that takes too long.
    pub(crate) async fn run(mut self) -> Result<Vec<Heard>, String> {
        let mut end = self.end.clone();
        let late = async move {
            drop(end.wait_for(Option::is_some).await);
            env::sleep(END_TIME_MAX).await;
        };
        let in_time = tokio::select! {
            () = self.watch_all() => true,
            () = late => false,
        };
        if in_time {
            return Ok(self.heard);
        }
        Err(format!(
            "only at {} of {:?}",
            self.reached,
            *self.end.borrow()
        ))
    }

    async fn watch_all(&mut self) {
        while !self.is_over() {
            server(&mut self.phases.clone()).await;
            if let Ok(client) = Client::connect(self.run.port).await {
                self.watch(&client).await;
            }
            env::sleep(RETRY_AFTER).await;
        }
    }

    fn is_over(&self) -> bool {
        self.end.borrow().is_some_and(|end| self.reached >= end)
    }

    /// Watches until the connection breaks or everything was heard.
    async fn watch(&mut self, client: &Client) {
        let (requests, mut queue) = mpsc::unbounded_channel();
        let queue = stream::poll_fn(move |context| queue.poll_recv(context));
        let mut answers = client.stream::<pb::WatchRequest>(queue);
        let ask = |request| {
            let _broken_is_seen_below = requests.send(pb::WatchRequest {
                request_union: Some(request),
            });
        };
        ask(RequestUnion::CreateRequest(self.create()));
        let mut progress = Box::pin(env::sleep(PROGRESS_EVERY));
        while !self.is_over() {
            tokio::select! {
                answer = answers.recv() => match answer {
                    Some(Ok(answer)) => if !self.hear(answer) { return },
                    _ => return,
                },
                () = &mut progress => {
                    ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
                    progress = Box::pin(env::sleep(PROGRESS_EVERY));
                }
            }
        }
    }

    fn create(&self) -> pb::WatchCreateRequest {
        let (key, range_end) = match self.key {
            Some(key) => (name(key).into_bytes(), Vec::new()),
            None => everything(),
        };
        pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.reached + 1,
            ..Default::default()
        }
    }

    /// Notes an answer; `false` if nothing follows it.
    fn hear(&mut self, answer: pb::WatchResponse) -> bool {
        let revision = answer.header.unwrap_or_default().revision;
        if answer.canceled {
            self.heard.push(Heard::Compacted(answer.compact_revision));
            // Changes at the compacted revision itself are there.
            self.reached = self.reached.max(answer.compact_revision - 1);
            return false;
        }
        if answer.created {
            self.heard.push(Heard::From(self.reached + 1));
        } else if answer.events.is_empty() {
            self.heard.push(Heard::Progress(revision));
            self.reached = self.reached.max(revision);
        } else {
            let events: Vec<_> = answer.events.iter().filter_map(change).collect();
            let last = events.last().map_or(0, |(revision, _)| *revision);
            self.reached = self.reached.max(last);
            self.heard.push(Heard::Events(events));
        }
        true
    }
}

fn change(event: &mvccpb::Event) -> Option<(i64, Change)> {
    let kv = event.kv.as_ref()?;
    let put = event.r#type() == mvccpb::event::EventType::Put;
    Some((
        kv.mod_revision,
        (number(&kv.key)?, put.then(|| value(&kv.value))),
    ))
}

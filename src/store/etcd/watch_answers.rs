//! The answers of one watch: what the store says, in the client's form.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kv::{Event, ProgressRequester, Revision, WatchMessage};
use prost::Message;
use tokio::sync::mpsc;

use crate::core::Core;
use crate::outlet::Outlet;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::mvccpb;
use crate::ranges::key_value;
use crate::services::MESSAGE_BYTES_MAX;
use crate::watches::{Note, is_filtered};

/// How long a watch that wants to hear of progress hears nothing at most, as in etcd; a little more for some, so that not all speak at once.
const PROGRESS_EVERY: Duration = Duration::from_mins(10);
const PROGRESS_SPREAD_SECONDS: u64 = 60;

/// What the client wants of the events.
pub(crate) struct Shape {
    start_revision: Revision,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    puts: bool,
    deletes: bool,
}

impl Shape {
    pub(crate) fn of(request: &pb::WatchCreateRequest) -> Self {
        Self {
            start_revision: request.start_revision,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            puts: !is_filtered(request, FilterType::Noput),
            deletes: !is_filtered(request, FilterType::Nodelete),
        }
    }

    fn event(&self, event: &Event) -> Option<mvccpb::Event> {
        // What was there before the revision: a key may be put and deleted in one.
        let before = |entry: &&kv::Entry| self.prev_kv && entry.mod_revision < event.revision();
        let previous = |previous: &Option<std::sync::Arc<kv::Entry>>| {
            previous.as_deref().filter(before).map(key_value)
        };
        match event {
            Event::Put {
                entry,
                previous: old,
            } => self.puts.then(|| mvccpb::Event {
                r#type: mvccpb::event::EventType::Put.into(),
                kv: Some(key_value(entry)),
                prev_kv: previous(old),
            }),
            Event::Delete {
                key,
                revision,
                previous: old,
            } => self.deletes.then(|| mvccpb::Event {
                r#type: mvccpb::event::EventType::Delete.into(),
                kv: Some(mvccpb::KeyValue {
                    key: key.to_vec(),
                    mod_revision: *revision,
                    ..Default::default()
                }),
                prev_kv: previous(old),
            }),
        }
    }
}

pub(crate) struct Forward {
    pub(crate) id: i64,
    pub(crate) core: Core,
    pub(crate) shape: Shape,
    /// The store's revision when the watch began: what is from before carries it, as in etcd.
    pub(crate) created: Revision,
    pub(crate) messages: mpsc::Receiver<WatchMessage>,
    pub(crate) progress: ProgressRequester,
    pub(crate) answers: Outlet,
    pub(crate) notes: mpsc::Sender<Note>,
}

/// The stream is over.
struct Over;

impl Forward {
    pub(crate) async fn run(mut self) {
        let _over = self.forward().await;
    }

    async fn forward(&mut self) -> Result<(), Over> {
        let spread = Duration::from_secs(self.id.unsigned_abs() % PROGRESS_SPREAD_SECONDS);
        let every = PROGRESS_EVERY + spread;
        let mut tick = Box::pin(env::sleep(every));
        let (mut quiet, mut asked) = (true, false);
        loop {
            tokio::select! {
                biased;
                message = self.messages.recv() => match message {
                    Some(WatchMessage::Events(events)) => {
                        quiet &= !self.send_events(&events).await?;
                    }
                    Some(WatchMessage::Progress(revision)) => {
                        if std::mem::take(&mut asked) && revision >= self.shape.start_revision {
                            self.send(self.answer(revision)).await?;
                        }
                        self.note(Note::Reached(self.id, revision)).await?;
                    }
                    Some(WatchMessage::Compacted { compact_revision }) => {
                        return self.end_compacted(compact_revision).await;
                    }
                    None => return self.note(Note::Closed).await,
                },
                () = &mut tick, if self.shape.progress_notify => {
                    if std::mem::replace(&mut quiet, true) {
                        asked = true;
                        // One that finds no place is not needed: an answer is on its way.
                        let _on_its_way = self.progress.0.try_send(());
                    }
                    tick = Box::pin(env::sleep(every));
                }
            }
        }
    }

    fn answer(&self, revision: Revision) -> pb::WatchResponse {
        pb::WatchResponse {
            header: self.core.header(revision),
            watch_id: self.id,
            ..Default::default()
        }
    }

    async fn send(&self, answer: pb::WatchResponse) -> Result<(), Over> {
        self.answers.say(answer).await.map_err(|_gone| Over)
    }

    async fn note(&self, note: Note) -> Result<(), Over> {
        self.notes.send(note).await.map_err(|_gone| Over)
    }

    async fn end_compacted(&self, compact_revision: Revision) -> Result<(), Over> {
        let answer = pb::WatchResponse {
            canceled: true,
            compact_revision,
            // etcd gives no revision here.
            ..self.answer(0)
        };
        self.send(answer).await?;
        self.note(Note::Ended(self.id)).await
    }

    async fn send_part(&self, answer: pb::WatchResponse) -> Result<(), Over> {
        let said = self.answers.say_events(answer).await;
        said.map_err(|_gone| Over)
    }

    /// Sends events, and tells whether there was one that the client wants.
    async fn send_events(&self, events: &[Event]) -> Result<bool, Over> {
        let mut any = false;
        for part in whole_revisions(events) {
            let wanted: Vec<_> = part
                .iter()
                .filter_map(|event| self.shape.event(event))
                .collect();
            let Some(last) = part.last().filter(|_| !wanted.is_empty()) else {
                continue;
            };
            any = true;
            let metrics = &self.core.metrics;
            metrics
                .events
                .fetch_add(wanted.len() as u64, Ordering::Relaxed);
            let answer = pb::WatchResponse {
                events: wanted,
                ..self.answer(last.revision().max(self.created))
            };
            if self.shape.fragment {
                for fragment in fragments(answer) {
                    self.send_part(fragment).await?;
                }
            } else {
                self.send_part(answer).await?;
            }
        }
        Ok(any)
    }
}

/// Parts that end where a revision ends, each as small as it can be above the size of a message.
fn whole_revisions(events: &[Event]) -> impl Iterator<Item = &[Event]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        let (mut bytes, mut end) = (0, 0);
        while end < rest.len() {
            let begins = end == 0 || rest[end].revision() != rest[end - 1].revision();
            if begins && bytes >= MESSAGE_BYTES_MAX {
                break;
            }
            bytes += size(&rest[end]);
            end += 1;
        }
        let (part, following) = rest.split_at(end);
        rest = following;
        Some(part).filter(|part| !part.is_empty())
    })
}

fn size(event: &Event) -> usize {
    let entry = |entry: &kv::Entry| entry.key.len() + entry.value.len();
    match event {
        Event::Put {
            entry: new,
            previous,
        } => entry(new) + previous.as_deref().map_or(0, entry),
        Event::Delete { key, previous, .. } => key.len() + previous.as_deref().map_or(0, entry),
    }
}

/// An answer that is too large in parts, all but the last of which say that more follows.
fn fragments(answer: pb::WatchResponse) -> Vec<pb::WatchResponse> {
    if answer.encoded_len() < MESSAGE_BYTES_MAX || answer.events.len() < 2 {
        return vec![answer];
    }
    let empty = pb::WatchResponse {
        events: Vec::new(),
        fragment: true,
        ..answer.clone()
    };
    let frame = empty.encoded_len();
    let mut parts: Vec<pb::WatchResponse> = Vec::new();
    let mut bytes = usize::MAX;
    for event in answer.events {
        let length = event.encoded_len();
        let size = 1 + prost::length_delimiter_len(length) + length;
        if bytes.saturating_add(size) >= MESSAGE_BYTES_MAX {
            parts.push(empty.clone());
            bytes = frame;
        }
        bytes += size;
        let part = parts.last_mut().expect("the first event begins a part");
        part.events.push(event);
    }
    if let Some(last) = parts.last_mut() {
        last.fragment = false;
    }
    parts
}

//! The task of one watch: brings an unsynced watcher up to date as fast as its reader reads, answers requests for progress in order with the events,
//! and takes the watcher away when its reader is gone. It sleeps while the watcher is synced.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::hub::{CATCH_UP_EVENTS_MAX, Step, Watcher};
use crate::item::VersionId;
use crate::replica::Replica;
use crate::state::{Located, State};
use crate::tree::Which;
use crate::types::{Error, Event, KeyRange, Revision, WatchMessage};

/// The watch is over.
struct Ended;

pub(crate) async fn run(
    replica: Arc<Replica>,
    watcher: Arc<Watcher>,
    mut requests: mpsc::Receiver<()>,
) {
    let pump = Pump {
        replica: &replica,
        watcher: &watcher,
    };
    let _ended = pump.run(&mut requests).await;
    replica.hub.unregister(&watcher);
}

struct Pump<'a> {
    replica: &'a Arc<Replica>,
    watcher: &'a Watcher,
}

type Permit<'a> = mpsc::Permit<'a, WatchMessage>;

impl Pump<'_> {
    async fn run(&self, requests: &mut mpsc::Receiver<()>) -> Result<(), Ended> {
        let mut may_ask = true;
        loop {
            self.catch_up().await?;
            tokio::select! {
                biased;
                () = self.watcher.queue.closed() => return Err(Ended),
                () = self.watcher.wake.notified() => {}
                asked = requests.recv(), if may_ask => match asked {
                    Some(()) => self.progress().await?,
                    None => may_ask = false,
                },
            }
        }
    }

    /// Waits for a place in the queue, until the reader or the store is gone.
    async fn place(&self) -> Result<Permit<'_>, Ended> {
        let reserve = self.watcher.queue.reserve();
        tokio::pin!(reserve);
        loop {
            tokio::select! {
                biased;
                permit = &mut reserve => return permit.map_err(|_closed| Ended),
                () = self.watcher.wake.notified() => {
                    if matches!(self.replica.hub.step(self.watcher), Step::Closed) {
                        return Err(Ended);
                    }
                }
            }
        }
    }

    async fn progress(&self) -> Result<(), Ended> {
        loop {
            let permit = self.place().await?;
            if self.replica.hub.progress(self.watcher, permit) {
                return Ok(());
            }
            self.catch_up().await?;
        }
    }

    async fn catch_up(&self) -> Result<(), Ended> {
        loop {
            match self.replica.hub.step(self.watcher) {
                Step::Wait => return Ok(()),
                Step::Closed => return Err(Ended),
                Step::Compacted { compact_revision } => {
                    return self.end_compacted(compact_revision).await;
                }
                Step::Deliver { events, next } => self.deliver(events, next).await?,
                Step::ReadHistory { next } => self.replay(next).await?,
            }
        }
    }

    async fn deliver(&self, events: Vec<Event>, next: Revision) -> Result<(), Ended> {
        if !events.is_empty() {
            self.place()
                .await?
                .send(WatchMessage::Events(events.into()));
        }
        self.replica.hub.advance(self.watcher, next);
        Ok(())
    }

    async fn end_compacted(&self, compact_revision: Revision) -> Result<(), Ended> {
        self.place()
            .await?
            .send(WatchMessage::Compacted { compact_revision });
        Err(Ended)
    }

    /// Delivers what the tree and the disk know from `next` to the newest revision.
    async fn replay(&self, next: Revision) -> Result<(), Ended> {
        let state = self.replica.snapshot();
        let mut past = past_events(&state, &self.watcher.range, next);
        // A compaction during the walk may have taken something away.
        let compact_revision = self.replica.hub.compact_revision();
        if next < compact_revision {
            return self.end_compacted(compact_revision).await;
        }
        while !past.is_empty() {
            let batch = next_batch(&mut past);
            let first = batch[0].id.revision();
            let last = batch[batch.len() - 1].id.revision();
            match self.load(batch).await {
                Ok(events) => self.deliver(events, last + 1).await?,
                Err(error) => {
                    let compact_revision = self.replica.hub.compact_revision();
                    if first < compact_revision {
                        return self.end_compacted(compact_revision).await;
                    }
                    // A watch cannot say more than that it ended; the reader starts again and meets the error there.
                    tracing::error!(%error, revision = first, "a watch ends because history cannot be read");
                    return Err(Ended);
                }
            }
        }
        self.replica.hub.advance(self.watcher, state.revision + 1);
        Ok(())
    }

    async fn load(&self, batch: Vec<PastEvent>) -> Result<Vec<Event>, Error> {
        let wanted = batch
            .iter()
            .flat_map(|event| [&event.value, &event.previous])
            .flatten()
            .cloned()
            .collect();
        let mut entries = self.replica.load(wanted).await?.into_iter();
        let mut take = |located: Option<Located>| located.and_then(|_| entries.next());
        let event = |past: PastEvent| {
            let (entry, previous) = (take(past.value), take(past.previous));
            match entry {
                Some(entry) => Event::Put { entry, previous },
                None => Event::Delete {
                    key: past.key,
                    revision: past.id.revision(),
                    previous,
                },
            }
        };
        Ok(batch.into_iter().map(event).collect())
    }
}

/// An event whose values are still to be read.
struct PastEvent {
    id: VersionId,
    key: Arc<[u8]>,
    value: Option<Located>,
    previous: Option<Located>,
}

/// The events of a range from `next` on, in order.
fn past_events(state: &State, range: &KeyRange, next: Revision) -> VecDeque<PastEvent> {
    let mut events = Vec::new();
    state.items.visit(range, Which::All, &mut |item| {
        for (version, before) in item.since(next) {
            let id = version.id;
            let value = Located::of(version, &item.key);
            // What was before the compacted revision is gone, even if it has not been swept yet.
            let before = before.filter(|_| id.revision() > state.compact_revision);
            let previous = before.and_then(|before| Located::of(before, &item.key));
            events.push(PastEvent {
                id,
                key: Arc::clone(&item.key),
                value,
                previous,
            });
        }
        ControlFlow::Continue(())
    });
    events.sort_unstable_by_key(|event| event.id);
    events.into()
}

/// Takes whole revisions off the front.
fn next_batch(past: &mut VecDeque<PastEvent>) -> Vec<PastEvent> {
    let mut end = past.len().min(CATCH_UP_EVENTS_MAX);
    while end < past.len() && past[end].id.revision() == past[end - 1].id.revision() {
        end += 1;
    }
    past.drain(..end).collect()
}

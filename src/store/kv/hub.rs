//! The watch hub: events reach every watcher whose range they touch, in revision order, and nobody who writes ever waits for one who reads.
//!
//! A watcher is synced while everything published fits its queue. When the queue is full it becomes unsynced: publishing passes it by, and its own
//! task (see `pump`) brings it up to date from the ring or from history, then makes it synced again. All of this is decided under one lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use crate::interval::IntervalMap;
use crate::ring::Ring;
use crate::types::{Event, KeyRange, Revision, WatchMessage};

/// Messages that wait for a reader before its watch becomes unsynced.
pub const WATCH_QUEUE_MAX: usize = 64;
/// Events of the ring that one catching-up watcher looks at under the lock.
const CATCH_UP_SCAN_MAX: usize = 4096;
/// Events in a message to a catching-up watcher, unless one revision has more.
pub(crate) const CATCH_UP_EVENTS_MAX: usize = 512;

#[derive(Debug)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    ring: Ring,
    published: Revision,
    compact_revision: Revision,
    groups: IntervalMap<Group>,
    next_id: u64,
    closed: bool,
}

/// The watchers of one range.
#[derive(Debug, Default)]
struct Group(BTreeMap<u64, Member>);

#[derive(Debug)]
struct Member {
    watcher: Arc<Watcher>,
    position: Position,
}

#[derive(Debug, Clone, Copy)]
enum Position {
    /// Everything published from `from` on was put into the queue.
    Synced { from: Revision },
    /// Everything before `next` was put into the queue.
    Unsynced { next: Revision },
}

#[derive(Debug)]
pub(crate) struct Watcher {
    id: u64,
    pub(crate) range: KeyRange,
    pub(crate) queue: mpsc::Sender<WatchMessage>,
    /// Rings when the watcher became unsynced or the hub closed.
    pub(crate) wake: Notify,
}

/// What a watcher's task has to do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing: the watcher is synced.
    Wait,
    /// Send these; everything before `next` is done then.
    Deliver {
        events: Vec<Event>,
        next: Revision,
    },
    /// The ring does not reach back to `next`: read history.
    ReadHistory {
        next: Revision,
    },
    Compacted {
        compact_revision: Revision,
    },
    Closed,
}

impl Hub {
    pub(crate) fn new(revision: Revision, compact_revision: Revision) -> Self {
        let ring = Ring::after(revision);
        let groups = IntervalMap::default();
        let inner = Inner {
            ring,
            published: revision,
            compact_revision,
            groups,
            next_id: 0,
            closed: false,
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// Adds a watcher that wants everything from `start` on, or what is published after this call.
    pub(crate) fn register(
        &self,
        range: KeyRange,
        start: Option<Revision>,
        queue: mpsc::Sender<WatchMessage>,
    ) -> Option<Arc<Watcher>> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return None;
        }
        inner.next_id += 1;
        let id = inner.next_id;
        let from = start.unwrap_or(inner.published + 1);
        let position = if from > inner.published {
            Position::Synced { from }
        } else {
            Position::Unsynced { next: from }
        };
        let watcher = Arc::new(Watcher {
            id,
            range,
            queue,
            wake: Notify::new(),
        });
        let member = Member {
            watcher: Arc::clone(&watcher),
            position,
        };
        inner
            .groups
            .get_or_default(&watcher.range)
            .0
            .insert(id, member);
        Some(watcher)
    }

    pub(crate) fn unregister(&self, watcher: &Watcher) {
        let mut inner = self.inner.lock();
        if let Some(group) = inner.groups.get_mut(&watcher.range) {
            group.0.remove(&watcher.id);
            if group.0.is_empty() {
                inner.groups.remove(&watcher.range);
            }
        }
    }

    /// Delivers the events of whole revisions. `published` is the last of them, or the revision as it was if only the compacted revision moved.
    pub(crate) fn publish(
        &self,
        events: &[Event],
        published: Revision,
        compact_revision: Revision,
    ) {
        let mut inner = self.inner.lock();
        inner.ring.push(events);
        if compact_revision > inner.compact_revision {
            inner.compact_revision = compact_revision;
            inner.ring.drop_through(compact_revision);
        }
        inner.deliver(events);
        inner.published = published;
    }

    /// Begins again at a later revision: whoever waits for something up to it cannot have it any more.
    pub(crate) fn restart(&self, revision: Revision, compact_revision: Revision) {
        let mut inner = self.inner.lock();
        inner.ring = Ring::after(revision);
        let known = inner.published;
        inner.published = revision;
        inner.compact_revision = compact_revision;
        for group in 0..inner.groups.len() {
            for member in inner.groups.value_mut(group).0.values_mut() {
                let next = match member.position {
                    Position::Synced { from } => from.max(known + 1),
                    Position::Unsynced { next } => next,
                };
                // Revision 0 is compacted in every store that was.
                let next = if next <= revision { 0 } else { next };
                member.position = Position::Unsynced { next };
                member.watcher.wake.notify_one();
            }
        }
    }

    /// Ends every watch, now and later.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        for group in inner.groups.drain() {
            for member in group.0.into_values() {
                member.watcher.wake.notify_one();
            }
        }
    }

    pub(crate) fn compact_revision(&self) -> Revision {
        self.inner.lock().compact_revision
    }

    /// Decides the next step of an unsynced watcher and makes it synced if it has everything.
    pub(crate) fn step(&self, watcher: &Watcher) -> Step {
        let mut inner = self.inner.lock();
        let (published, compact_revision) = (inner.published, inner.compact_revision);
        let Some(member) = inner.member(watcher) else {
            return Step::Closed;
        };
        let Position::Unsynced { next } = member.position else {
            return Step::Wait;
        };
        if next < compact_revision {
            return Step::Compacted { compact_revision };
        }
        if next > published {
            member.position = Position::Synced { from: next };
            return Step::Wait;
        }
        if next < inner.ring.complete_from() {
            return Step::ReadHistory { next };
        }
        let (events, next) = catch_up(&inner.ring, &watcher.range, next, published);
        Step::Deliver { events, next }
    }

    /// Notes that an unsynced watcher was sent everything before `next`.
    pub(crate) fn advance(&self, watcher: &Watcher, next: Revision) {
        if let Some(member) = self.inner.lock().member(watcher) {
            member.position = Position::Unsynced { next };
        }
    }

    /// Puts a progress message after all events if the watcher is synced and nothing before its start is missing; `false` if it is unsynced.
    pub(crate) fn progress(
        &self,
        watcher: &Watcher,
        permit: mpsc::Permit<'_, WatchMessage>,
    ) -> bool {
        let mut inner = self.inner.lock();
        let published = inner.published;
        match inner.member(watcher).map(|member| member.position) {
            Some(Position::Synced { from }) if from <= published + 1 => {
                permit.send(WatchMessage::Progress(published));
            }
            Some(Position::Unsynced { .. }) => return false,
            // A watch of the future says nothing before its time (etcd#20221).
            Some(Position::Synced { .. }) | None => {}
        }
        true
    }
}

/// The next events for a range out of the ring, and the revision after them. Revisions are whole.
fn catch_up(
    ring: &Ring,
    range: &KeyRange,
    next: Revision,
    published: Revision,
) -> (Vec<Event>, Revision) {
    let mut found: Vec<Event> = Vec::new();
    let mut reached = next - 1;
    // The events of a revision stand together, so the scan may only end where the next revision begins.
    for (looked_at, event) in ring.since(next, usize::MAX).enumerate() {
        let begins = event.revision() > reached;
        if begins && (looked_at >= CATCH_UP_SCAN_MAX || found.len() >= CATCH_UP_EVENTS_MAX) {
            return (found, reached + 1);
        }
        reached = event.revision();
        if range.contains(event.key()) {
            found.push(event.clone());
        }
    }
    (found, published + 1)
}

impl Inner {
    fn member(&mut self, watcher: &Watcher) -> Option<&mut Member> {
        self.groups.get_mut(&watcher.range)?.0.get_mut(&watcher.id)
    }

    fn deliver(&mut self, events: &[Event]) {
        if self.groups.is_empty() || events.is_empty() {
            return;
        }
        let mut by_group: Vec<Vec<usize>> = vec![Vec::new(); self.groups.len()];
        let mut containing = Vec::new();
        for (at, event) in events.iter().enumerate() {
            containing.clear();
            self.groups.containing(event.key(), &mut containing);
            for &group in &containing {
                by_group[group].push(at);
            }
        }
        // Most groups want all of what is published: they share one allocation.
        let mut all: Option<Arc<[Event]>> = None;
        for (group, wanted) in by_group
            .into_iter()
            .enumerate()
            .filter(|(_, wanted)| !wanted.is_empty())
        {
            let share = if wanted.len() == events.len() {
                Arc::clone(all.get_or_insert_with(|| Arc::from(events)))
            } else {
                wanted.iter().map(|&at| events[at].clone()).collect()
            };
            for member in self.groups.value_mut(group).0.values_mut() {
                member.deliver(&share);
            }
        }
    }
}

impl Member {
    fn deliver(&mut self, events: &Arc<[Event]>) {
        let Position::Synced { from } = self.position else {
            return;
        };
        let events = match events.partition_point(|event| event.revision() < from) {
            0 => Arc::clone(events),
            early if early == events.len() => return,
            early => Arc::from(&events[early..]),
        };
        let first = events[0].revision();
        match self.watcher.queue.try_send(WatchMessage::Events(events)) {
            Err(TrySendError::Full(_)) => {
                self.position = Position::Unsynced { next: first };
                self.watcher.wake.notify_one();
            }
            // Delivered, or the reader is gone and its task takes the watcher away.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
        }
    }
}

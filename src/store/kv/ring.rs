//! The newest events of the store, bounded in number and bytes, so that a watcher that fell behind a little needs no history from the tree or disk.

use std::collections::VecDeque;

use crate::types::{Entry, Event, Revision};

/// Bytes of keys and values that the ring may keep alive.
pub const RING_BYTES_MAX: usize = 32 << 20;
/// Events in the ring at most.
pub const RING_EVENTS_MAX: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    /// Every event from this revision on is in the ring.
    complete_from: Revision,
}

impl Ring {
    /// An empty ring of a store at `revision`.
    pub(crate) fn after(revision: Revision) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            complete_from: revision + 1,
        }
    }

    pub(crate) fn complete_from(&self) -> Revision {
        self.complete_from
    }

    /// Takes the next events, in revision order.
    pub(crate) fn push(&mut self, events: &[Event]) {
        for event in events {
            self.bytes += bytes(event);
            self.events.push_back(event.clone());
        }
        while self.bytes > RING_BYTES_MAX || self.events.len() > RING_EVENTS_MAX {
            self.drop_oldest();
        }
    }

    /// Forgets the events up to `revision`.
    pub(crate) fn drop_through(&mut self, revision: Revision) {
        while self
            .events
            .front()
            .is_some_and(|event| event.revision() <= revision)
        {
            self.drop_oldest();
        }
        self.complete_from = self.complete_from.max(revision + 1);
        // What a burst needed is given back once its history is compacted.
        if self.events.capacity() > 4 * self.events.len().max(16) {
            self.events.shrink_to_fit();
        }
    }

    /// The events from `revision` on, at most `max` of them.
    pub(crate) fn since(&self, revision: Revision, max: usize) -> impl Iterator<Item = &Event> {
        let from = self
            .events
            .partition_point(|event| event.revision() < revision);
        self.events.range(from..).take(max)
    }

    fn drop_oldest(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= bytes(&event);
            self.complete_from = event.revision() + 1;
        }
    }
}

/// Both values count: the previous one may be held by nobody else.
fn bytes(event: &Event) -> usize {
    let size = |entry: &Entry| entry.key.len() + entry.value.len();
    match event {
        Event::Put { entry, previous } => size(entry) + previous.as_deref().map_or(0, size),
        Event::Delete { key, previous, .. } => key.len() + previous.as_deref().map_or(0, size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn put(revision: Revision, size: usize) -> Event {
        let entry = Arc::new(Entry {
            key: Arc::from(&b"k"[..]),
            value: vec![0; size].into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
            memo: std::sync::OnceLock::new(),
        });
        Event::Put {
            entry,
            previous: None,
        }
    }

    #[test]
    fn values_are_bounded_and_a_half_dropped_revision_is_not_complete() {
        let mut ring = Ring::after(1);
        ring.push(&[put(2, RING_BYTES_MAX / 2), put(2, RING_BYTES_MAX / 4)]);
        assert_eq!(ring.complete_from(), 2);
        ring.push(&[put(3, RING_BYTES_MAX / 2)]);
        assert_eq!(ring.complete_from(), 3);
        assert!(ring.bytes <= RING_BYTES_MAX);
        assert_eq!(ring.since(3, 10).count(), 1);
        ring.drop_through(7);
        assert_eq!((ring.complete_from(), ring.bytes), (8, 0));
    }
}

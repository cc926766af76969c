//! Changes kept for a consumer until it takes them: at most one per object.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use apimachinery::ObjectKey;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Cache, Change};

/// A consumer's view of a cache; it keeps the cache alive.
#[derive(Debug)]
pub struct Subscription {
    cache: Arc<Cache>,
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    pending: Mutex<Pending>,
    arrived: Notify,
}

// Bounded by the number of objects: each has one entry at most.
#[derive(Debug, Default)]
struct Pending {
    changes: BTreeMap<ObjectKey, Change>,
    order: VecDeque<ObjectKey>,
}

impl Queue {
    pub(crate) fn push(&self, change: &Change) {
        let mut pending = self.pending.lock();
        match pending.changes.get_mut(change.key()) {
            Some(waiting) if waiting.old.is_none() && change.new.is_none() => {
                // It came and went before anybody looked.
                pending.changes.remove(change.key());
                pending.order.retain(|key| key != change.key());
            }
            Some(waiting) => waiting.new.clone_from(&change.new),
            None => {
                pending.order.push_back(change.key().clone());
                pending.changes.insert(change.key().clone(), change.clone());
            }
        }
        drop(pending);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Option<Change> {
        let mut pending = self.pending.lock();
        let key = pending.order.pop_front()?;
        pending.changes.remove(&key)
    }
}

impl Subscription {
    pub(crate) fn new(cache: Arc<Cache>, queue: Arc<Queue>) -> Self {
        Self { cache, queue }
    }

    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The next change; cancel safe. Old and new may be two objects of one name: their uids tell.
    pub async fn next(&self) -> Change {
        loop {
            if let Some(change) = self.queue.pop() {
                return change;
            }
            self.queue.arrived.notified().await;
        }
    }

    /// The next change, if one is waiting.
    pub fn try_next(&self) -> Option<Change> {
        self.queue.pop()
    }
}

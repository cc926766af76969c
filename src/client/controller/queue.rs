//! Keys waiting to be turned: each at most once, never twice at the same time, and later if asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use env::JoinHandle;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bounded by the number of keys: a key has one place in it.
pub struct Queue<K> {
    waiting: Mutex<Waiting<K>>,
    arrived: Notify,
}

struct Waiting<K> {
    order: VecDeque<K>,
    queued: BTreeSet<K>,
    running: BTreeSet<K>,
    /// Woken while running.
    again: BTreeSet<K>,
    timers: BTreeMap<K, JoinHandle<()>>,
}

impl<K> std::fmt::Debug for Queue<K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Queue")
    }
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        let waiting = Waiting {
            order: VecDeque::new(),
            queued: BTreeSet::new(),
            running: BTreeSet::new(),
            again: BTreeSet::new(),
            timers: BTreeMap::new(),
        };
        Self {
            waiting: Mutex::new(waiting),
            arrived: Notify::new(),
        }
    }
}

impl<K: Ord + Clone + Send + 'static> Queue<K> {
    pub fn add(&self, key: K) {
        let mut waiting = self.waiting.lock();
        if waiting.running.contains(&key) {
            waiting.again.insert(key);
            return;
        }
        if waiting.queued.insert(key.clone()) {
            waiting.order.push_back(key);
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    /// Adds the key when `delay` has passed; replaces an earlier delay of the same key.
    pub fn add_after(self: &Arc<Self>, key: K, delay: Duration) {
        let queue = Arc::downgrade(self);
        let later = key.clone();
        let timer = env::spawn(async move {
            env::sleep(delay).await;
            if let Some(queue) = queue.upgrade() {
                queue.waiting.lock().timers.remove(&later);
                queue.add(later);
            }
        });
        if let Some(replaced) = self.waiting.lock().timers.insert(key, timer) {
            replaced.abort();
        }
    }

    pub fn cancel_delay(&self, key: &K) {
        if let Some(timer) = self.waiting.lock().timers.remove(key) {
            timer.abort();
        }
    }

    /// The next key; it is not given out again before `done`. Cancel safe.
    pub async fn next(&self) -> K {
        loop {
            if let Some(key) = self.pop() {
                return key;
            }
            self.arrived.notified().await;
        }
    }

    fn pop(&self) -> Option<K> {
        let mut waiting = self.waiting.lock();
        let key = waiting.order.pop_front()?;
        waiting.queued.remove(&key);
        waiting.running.insert(key.clone());
        if !waiting.order.is_empty() {
            self.arrived.notify_one();
        }
        Some(key)
    }

    /// The turn of a key is over; it is queued again if it was woken meanwhile.
    pub fn done(&self, key: &K) {
        let mut waiting = self.waiting.lock();
        waiting.running.remove(key);
        let is_woken = waiting.again.remove(key);
        drop(waiting);
        if is_woken {
            self.add(key.clone());
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K> Drop for Queue<K> {
    fn drop(&mut self) {
        for timer in self.waiting.get_mut().timers.values() {
            timer.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_woken_while_it_runs_runs_once_more() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        queue.add("a");
        assert!(queue.is_empty());
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(queue.is_empty());
    }
}

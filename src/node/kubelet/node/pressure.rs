//! What the node is short of, as the eviction manager saw it last.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Something a node can be short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    Memory,
    Disk,
    Pid,
}

/// Shared between the eviction manager, which sets it, and those who tell or act on it.
#[derive(Debug, Default)]
pub(crate) struct PressureState {
    now: Mutex<BTreeSet<Pressure>>,
    changed: Notify,
}

impl PressureState {
    pub(crate) fn set(&self, now: BTreeSet<Pressure>) {
        let mut known = self.now.lock();
        if *known != now {
            *known = now;
            drop(known);
            self.changed.notify_one();
        }
    }

    pub(crate) fn get(&self) -> BTreeSet<Pressure> {
        self.now.lock().clone()
    }

    /// Returns when something changed; cancel safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

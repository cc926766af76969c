//! The process' own copy of a part of an etcd: all readers and watchers share it, and one task keeps it in step.

use std::sync::Arc;
use std::time::Duration;

use kv::{Entry, Error, KeyRange, Loader, Replica, Result, Revision, State, VersionId};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Superseded versions that are kept for watchers that are behind; older ones are etcd's to tell.
const VERSIONS_MAX: usize = 1 << 14;
/// Versions that are forgotten under one lock.
const FORGET_STEP: usize = 4096;

/// One key as it was changed; `None`: it was deleted.
pub(crate) struct Change {
    pub(crate) revision: Revision,
    pub(crate) key: Arc<[u8]>,
    pub(crate) entry: Option<Arc<Entry>>,
}

#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) range: KeyRange,
    pub(crate) replica: Arc<Replica>,
    state: Mutex<State>,
    /// The revision up to which the copy is complete.
    reached: watch::Sender<Revision>,
    /// The revision that somebody waits for.
    wanted: watch::Sender<Revision>,
}

impl Mirror {
    /// A copy that begins with what a range held at a revision.
    pub(crate) fn new(range: KeyRange, entries: Vec<Arc<Entry>>, revision: Revision) -> Self {
        let loaded = load(entries, revision);
        Self {
            range,
            state: Mutex::new(loaded.state.clone()),
            replica: Replica::new(loaded, None),
            reached: watch::Sender::new(revision),
            wanted: watch::Sender::new(revision),
        }
    }

    pub(crate) fn covers(&self, range: &KeyRange) -> bool {
        match &range.end {
            None => self.range.contains(&range.start),
            Some(end) => {
                let within = match &self.range.end {
                    None => false,
                    Some(last) => last.is_empty() || (!end.is_empty() && end <= last),
                };
                within && range.start >= self.range.start
            }
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        *self.reached.borrow()
    }

    pub(crate) fn wanted(&self) -> watch::Receiver<Revision> {
        self.wanted.subscribe()
    }

    /// The last revision of which the copy does not know everything that happened.
    pub(crate) fn begins_after(&self) -> Revision {
        self.replica.snapshot().compact_revision()
    }

    /// Waits until everything up to a revision is in the copy.
    pub(crate) async fn reach(&self, revision: Revision, time_max: Duration) -> Result<()> {
        let mut reached = self.reached.subscribe();
        if *reached.borrow() >= revision {
            return Ok(());
        }
        self.wanted
            .send_if_modified(|wanted| std::mem::replace(wanted, revision.max(*wanted)) < revision);
        let done = env::timeout(time_max, reached.wait_for(|at| *at >= revision)).await;
        match done {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_closed)) => Err(Error::Closed),
            Err(_timed_out) => Err(Error::Unavailable(format!(
                "etcd is at revision {revision} and has told its changes up to {} only",
                self.revision()
            ))),
        }
    }

    /// Takes over changes of whole revisions, in order.
    pub(crate) fn follow(&self, changes: Vec<Change>) {
        let mut state = self.state.lock();
        let mut done = Vec::with_capacity(changes.len());
        let (mut revision, mut sub) = (0, 0);
        for change in changes {
            // What was told before the connection was lost is told again.
            if change.revision <= self.revision() {
                continue;
            }
            sub = if change.revision == revision {
                sub + 1
            } else {
                0
            };
            revision = change.revision;
            done.push(state.follow(VersionId::new(revision, sub), change.key, change.entry));
        }
        self.replica.publish(&state, &done, VersionId(0));
        if let Some(compact) = self.replica.crowded(VERSIONS_MAX) {
            self.forget_to(&mut state, compact);
        }
        self.reached
            .send_if_modified(|at| std::mem::replace(at, revision.max(*at)) < revision);
    }

    /// Notes that nothing else happened up to a revision.
    pub(crate) fn pass(&self, revision: Revision) {
        let mut state = self.state.lock();
        if revision <= state.revision() {
            return;
        }
        state.reach(revision);
        self.replica.publish(&state, &[], VersionId(0));
        self.reached.send_replace(revision);
    }

    /// Begins again with what the range holds now, when changes in between are lost.
    pub(crate) fn restart(&self, entries: Vec<Arc<Entry>>, revision: Revision) {
        let loaded = load(entries, revision);
        let mut state = self.state.lock();
        *state = loaded.state.clone();
        self.replica.restart(loaded);
        self.reached.send_replace(revision);
    }

    /// Forgets history that etcd has forgotten, too.
    pub(crate) fn compacted(&self, revision: Revision) {
        let mut state = self.state.lock();
        let revision = revision.min(state.revision());
        if revision > state.compact_revision() {
            self.forget_to(&mut state, revision);
        }
    }

    fn forget_to(&self, state: &mut State, revision: Revision) {
        state.set_compact_revision(revision);
        loop {
            let dead = self.replica.dead(state, FORGET_STEP);
            self.replica.forget(state, &dead);
            if dead.len() < FORGET_STEP {
                break;
            }
        }
        self.replica.publish(state, &[], VersionId(0));
    }
}

/// A state that knows what is there, and nothing of how it came to be.
fn load(entries: Vec<Arc<Entry>>, revision: Revision) -> kv::Loaded {
    let mut loader = Loader::default();
    for entry in entries {
        let id = VersionId::new(entry.mod_revision, 0);
        loader.version(id, Arc::clone(&entry.key), Some(entry));
    }
    loader.finish(revision, revision)
}

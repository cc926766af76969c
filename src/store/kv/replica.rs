//! The copy of a store that all readers share: the newest state, the event ring and the watchers, fed in revision order by the one who writes.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::hub::{Hub, WATCH_QUEUE_MAX};
use crate::item::{Body, VersionId};
use crate::pump;
use crate::state::{Change, Loaded, Located, State};
use crate::transact::load;
use crate::types::{
    Entry, Error, Event, ProgressRequester, RangeRequest, RangeResponse, Result, Revision,
    WatchMessage, WatchRequest, WatchStream,
};

/// Reads older versions from where the store keeps them; may block.
pub trait ReadHistory: Send + Sync + std::fmt::Debug {
    /// The entries of these versions, in the same order. A version that is not there any more is an error.
    fn read(&self, wanted: &[(VersionId, Arc<[u8]>)]) -> Result<Vec<Arc<Entry>>>;
}

/// Requests for progress that wait at most; more of them would say the same.
const PROGRESS_REQUESTS_MAX: usize = 4;

#[derive(Debug)]
pub struct Replica {
    view: RwLock<Arc<State>>,
    pub(crate) hub: Hub,
    history: Option<Arc<dyn ReadHistory>>,
    garbage: Mutex<VecDeque<Dead>>,
}

/// A version that nobody can see any more once the compacted revision reaches `from`.
#[derive(Clone, Debug)]
pub struct Dead {
    from: Revision,
    pub id: VersionId,
    key: Arc<[u8]>,
}

impl Replica {
    /// `history` is `None` for a store that keeps all versions in memory.
    pub fn new(loaded: Loaded, history: Option<Arc<dyn ReadHistory>>) -> Arc<Self> {
        let Loaded { state, changes } = loaded;
        let replica = Self {
            hub: Hub::new(state.revision, state.compact_revision),
            view: RwLock::new(Arc::new(state)),
            history,
            garbage: Mutex::default(),
        };
        replica.remember(&changes, VersionId(i64::MAX));
        Arc::new(replica)
    }

    /// The newest state; it never changes.
    pub fn snapshot(&self) -> Arc<State> {
        Arc::clone(&self.view.read())
    }

    pub async fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let state = self.snapshot();
        let found = state.find(request)?;
        let entries = self.load(found.located).await;
        // A compaction during the walk may have taken versions away.
        self.snapshot().check_revision(request.revision)?;
        Ok(RangeResponse {
            revision: state.revision,
            entries: entries?,
            count: found.count,
        })
    }

    pub(crate) async fn load(&self, located: Vec<Located>) -> Result<Vec<Arc<Entry>>> {
        if !located
            .iter()
            .any(|found| matches!(found, Located::OnDisk(..)))
        {
            return load(located, None);
        }
        let history = self.history.clone();
        let read = env::spawn_blocking(move || load(located, history.as_deref()));
        read.await.map_err(|error| Error::Io(error.to_string()))?
    }

    /// Starts a watch; its task runs on the caller's runtime.
    pub fn watch(self: &Arc<Self>, request: WatchRequest) -> Result<WatchStream> {
        let (queue, messages) = mpsc::channel(WATCH_QUEUE_MAX);
        let (progress, requests) = mpsc::channel(PROGRESS_REQUESTS_MAX);
        let stream = WatchStream {
            messages,
            progress: ProgressRequester(progress),
        };
        let compact_revision = self.hub.compact_revision();
        let start = request.start_revision.filter(|start| *start != 0);
        if start.is_some_and(|start| start < compact_revision.max(0)) {
            let message = WatchMessage::Compacted {
                compact_revision: compact_revision.max(0),
            };
            queue.try_send(message).expect("the queue is empty");
            return Ok(stream);
        }
        let watcher = self
            .hub
            .register(request.range, start, queue)
            .ok_or(Error::Closed)?;
        env::spawn(pump::run(Arc::clone(self), watcher, requests));
        Ok(stream)
    }

    /// Makes a state visible, with the changes since the last one in order. Versions up to `on_disk_through` can be read by [`ReadHistory`]; what is
    /// newer stays in memory when it is superseded.
    pub fn publish(&self, state: &State, changes: &[Change], on_disk_through: VersionId) {
        let events: Vec<Event> = changes.iter().map(event).collect();
        self.remember(changes, on_disk_through);
        *self.view.write() = Arc::new(state.clone());
        self.hub
            .publish(&events, state.revision, state.compact_revision);
    }

    /// Begins again with another state, when the changes since the last one are not known: every watch that waits for one of them ends, as if they were
    /// compacted.
    pub fn restart(&self, loaded: Loaded) {
        let Loaded { state, changes } = loaded;
        self.garbage.lock().clear();
        self.remember(&changes, VersionId(i64::MAX));
        let (revision, compact_revision) = (state.revision, state.compact_revision);
        *self.view.write() = Arc::new(state);
        self.hub.restart(revision, compact_revision);
    }

    /// Moves what was superseded into history and notes when it can be forgotten.
    fn remember(&self, changes: &[Change], on_disk_through: VersionId) {
        let mut garbage = self.garbage.lock();
        // Tombstones outlive the other versions that their revision made obsolete: a watch at the compacted revision still sees the deletes.
        let mut tombstones = Vec::new();
        let mut revision = 0;
        for change in changes {
            if change.id.revision() != revision {
                garbage.extend(tombstones.drain(..));
                revision = change.id.revision();
            }
            if let Some(superseded) = &change.superseded {
                let mut version = superseded.version.clone();
                if !matches!(version.body, Body::Tombstone) {
                    garbage.push_back(Dead {
                        from: revision,
                        id: version.id,
                        key: Arc::clone(&change.key),
                    });
                    if version.id <= on_disk_through {
                        version.body = Body::OnDisk;
                    }
                }
                superseded.history.push(version);
            }
            if change.entry.is_none() {
                tombstones.push(Dead {
                    from: revision + 1,
                    id: change.id,
                    key: Arc::clone(&change.key),
                });
            }
        }
        garbage.extend(tombstones);
    }

    /// Up to `max` versions below the compacted revision that can be forgotten, oldest first.
    pub fn dead(&self, state: &State, max: usize) -> Vec<Dead> {
        let garbage = self.garbage.lock();
        garbage
            .iter()
            .take(max)
            .take_while(|dead| dead.from <= state.compact_revision)
            .cloned()
            .collect()
    }

    /// The revision to compact to so that half of `max` superseded versions stay, if there are more than `max`.
    pub fn crowded(&self, max: usize) -> Option<Revision> {
        let garbage = self.garbage.lock();
        if garbage.len() <= max {
            return None;
        }
        Some(
            garbage[garbage.len() - max / 2 - 1]
                .from
                .min(self.snapshot().revision),
        )
    }

    /// Forgets what [`Self::dead`] gave last; the writer publishes `state` afterwards.
    pub fn forget(&self, state: &mut State, dead: &[Dead]) {
        for dead in dead {
            state.forget(&dead.key, dead.id);
        }
        let mut garbage = self.garbage.lock();
        garbage.drain(..dead.len());
        if garbage.capacity() > 4 * garbage.len().max(16) {
            garbage.shrink_to_fit();
        }
    }

    /// Ends every watch.
    pub fn close(&self) {
        self.hub.close();
    }
}

fn event(change: &Change) -> Event {
    let previous = change.previous.clone();
    match &change.entry {
        Some(entry) => Event::Put {
            entry: Arc::clone(entry),
            previous,
        },
        None => Event::Delete {
            key: Arc::clone(&change.key),
            revision: change.id.revision(),
            previous,
        },
    }
}

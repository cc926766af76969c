//! Everything that may change what a pod's worker does next: one slot each, only the newest value, and one bell.

use std::collections::BTreeMap;

use apimachinery::StoredObject;
use cri::ContainerId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::probes::{ProbeKind, ProbeResult};

/// Where a pod comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Api,
    /// A file of the manifests folder.
    Manifest,
}

/// A pod that this node should run, in its newest form.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub object: StoredObject,
    pub origin: Origin,
    /// For a static pod: its mirror in the API, once there.
    pub mirror: Option<StoredObject>,
}

/// The node wants the pod away; it ends as Failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Seconds; `None`: the pod's own.
    pub(crate) grace_seconds: Option<i64>,
    /// The reason of the `DisruptionTarget` condition.
    pub(crate) disruption: Option<&'static str>,
}

/// The node does not take the pod; it ends as Failed without having run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) reason: String,
    pub(crate) message: String,
}

#[derive(Debug)]
struct State {
    wanted: Wanted,
    gone: bool,
    probes: BTreeMap<(ContainerId, ProbeKind), ProbeResult>,
    eviction: Option<Eviction>,
    rejection: Option<Rejection>,
    refreshes: u64,
}

/// The inbox of one pod's worker.
#[derive(Debug)]
pub(crate) struct Inputs {
    state: Mutex<State>,
    bell: Notify,
    ending: Notify,
}

/// The inputs of one turn.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) wanted: Wanted,
    /// The pod is not wanted by any source any more.
    pub(crate) gone: bool,
    pub(crate) probes: BTreeMap<(ContainerId, ProbeKind), ProbeResult>,
    pub(crate) eviction: Option<Eviction>,
    pub(crate) rejection: Option<Rejection>,
}

impl Inputs {
    pub(crate) fn new(wanted: Wanted, rejection: Option<Rejection>) -> Self {
        let state = State {
            wanted,
            gone: false,
            probes: BTreeMap::new(),
            eviction: None,
            rejection,
            refreshes: 0,
        };
        Self {
            state: Mutex::new(state),
            bell: Notify::new(),
            ending: Notify::new(),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state.lock();
        Snapshot {
            wanted: state.wanted.clone(),
            gone: state.gone,
            probes: state.probes.clone(),
            eviction: state.eviction.clone(),
            rejection: state.rejection.clone(),
        }
    }

    pub(crate) fn wanted(&self) -> Wanted {
        self.state.lock().wanted.clone()
    }

    /// The newest form of the pod, as its source tells it in order. Its revision may be lower: a server may have been restored
    /// from a backup.
    pub(crate) fn set_wanted(&self, wanted: Wanted) {
        let ends = wanted.object.index.is_being_deleted;
        {
            let mut state = self.state.lock();
            state.wanted = wanted;
        }
        self.ring(ends);
    }

    /// No source wants the pod any more.
    pub(crate) fn set_gone(&self) {
        self.state.lock().gone = true;
        self.ring(true);
    }

    pub(crate) fn evict(&self, eviction: Eviction) {
        self.state.lock().eviction.get_or_insert(eviction);
        self.ring(true);
    }

    pub(crate) fn probe(&self, container: &ContainerId, kind: ProbeKind) -> Option<ProbeResult> {
        self.state
            .lock()
            .probes
            .get(&(container.clone(), kind))
            .copied()
    }

    pub(crate) fn set_probe(&self, container: &ContainerId, kind: ProbeKind, result: ProbeResult) {
        let before = self
            .state
            .lock()
            .probes
            .insert((container.clone(), kind), result);
        if before != Some(result) {
            self.poke();
        }
    }

    /// Forgets results of containers that are not among `kept`.
    pub(crate) fn keep_probes(&self, kept: impl Fn(&ContainerId) -> bool) {
        self.state
            .lock()
            .probes
            .retain(|(container, _), _| kept(container));
    }

    /// Contents of the pod's volumes may have changed.
    pub(crate) fn refresh_volumes(&self) {
        self.state.lock().refreshes += 1;
        self.poke();
    }

    /// Grows with every change of contents.
    pub(crate) fn refreshes(&self) -> u64 {
        self.state.lock().refreshes
    }

    /// Something the worker observes has changed: take another turn.
    pub(crate) fn poke(&self) {
        self.bell.notify_one();
    }

    /// Returns when there may be something to do; cancel safe.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Whether the pod has to end.
    pub(crate) fn must_end(&self) -> bool {
        let state = self.state.lock();
        state.gone || state.wanted.object.index.is_being_deleted || state.eviction.is_some()
    }

    /// Returns once the pod has to end; cancel safe.
    pub(crate) async fn ending(&self) {
        loop {
            let told = self.ending.notified();
            if self.must_end() {
                return;
            }
            told.await;
        }
    }

    fn ring(&self, ends: bool) {
        if ends {
            self.ending.notify_waiters();
        }
        self.bell.notify_one();
    }
}

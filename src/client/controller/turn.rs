//! What a controller is, and what it is told of its past.

use std::time::Duration;

use apimachinery::{GroupVersionResource, Object, ObjectKey};
use env::Timestamp;
use kube_client::ClientError;

use crate::{Plan, Wakes};

/// Brings the world, as one key names a part of it, towards what the API says.
pub trait Controller: Send + Sync + 'static {
    /// Everything `plan` needs, nothing else.
    type View;
    /// Kept for each key between turns, and dropped with the object. `()` costs nothing.
    type Memory: Default + Send;
    /// The service account in `kube-system` as which it calls: upstream's name of the controller.
    const NAME: &'static str;
    /// The component that its events name.
    const EVENT_SOURCE: &'static str = Self::NAME;
    /// How many keys are turned at once.
    const CONCURRENT_TURNS: usize = 5;

    fn wakes(&self, on: &mut Wakes);

    /// Reads caches, never the API; `None` if the object is gone, which forgets the key.
    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, Self::Memory>) -> Option<Self::View>;

    /// Pure: two turns in a row do nothing the second time.
    fn plan(&self, view: &Self::View, now: Timestamp) -> Plan;
}

/// What the runner kept of a key since its last turn.
#[derive(Debug)]
pub struct Past<'a, M> {
    pub memory: &'a mut M,
    /// How the actions of the last turn ended.
    pub outcomes: &'a Outcomes,
    /// Wall time, as `plan` is told.
    pub now: Timestamp,
    /// Time that never jumps, for measuring how long ago something was observed.
    pub monotonic: Duration,
}

/// How the actions of one turn ended.
#[derive(Debug, Default)]
pub struct Outcomes {
    pub failures: Vec<Failure>,
    /// The answers to `Action::Read`; `None`: there is no such object.
    pub reads: Vec<(GroupVersionResource, ObjectKey, Option<Object>)>,
    /// The answers to `Action::Ask`.
    pub answers: Vec<Object>,
}

impl Outcomes {
    pub fn is_empty(&self) -> bool {
        self.failures.is_empty() && self.reads.is_empty() && self.answers.is_empty()
    }

    /// The live answer for an object, if the last turn asked for it.
    pub fn read(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
    ) -> Option<&Option<Object>> {
        self.reads
            .iter()
            .find(|(of, read, _)| of == resource && read == key)
            .map(|(_, _, answer)| answer)
    }

    pub fn failed(&self, verb: Verb, resource: &str) -> Option<&Failure> {
        self.failures
            .iter()
            .find(|failure| failure.verb == verb && failure.resource.resource == resource)
    }
}

/// An action that was refused or not answered.
#[derive(Clone, Debug)]
pub struct Failure {
    pub verb: Verb,
    pub resource: GroupVersionResource,
    /// The name is empty for a create that asked for a generated one.
    pub key: ObjectKey,
    pub error: ClientError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    Update,
    Patch,
    Delete,
    Read,
}

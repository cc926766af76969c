//! Every object of one selection, as of one revision, with everybody who wants to hear of changes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use apimachinery::{ObjectKey, StoredObject};
use env::ShutdownTrigger;
use kube_client::ListRequest;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::index::{Index, IndexState};
use crate::subscription::{Queue, Subscription};

/// The revision of a cache that holds what is remembered: it is synced, and before every revision of a server.
pub(crate) const REMEMBERED: i64 = i64::MIN;

/// One object came, changed or went. At least one side is there.
#[derive(Clone, Debug)]
pub struct Change {
    pub old: Option<StoredObject>,
    pub new: Option<StoredObject>,
}

impl Change {
    pub fn key(&self) -> &ObjectKey {
        self.latest().key()
    }

    /// The new state, or the last one of an object that went.
    pub fn latest(&self) -> &StoredObject {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("a change has a side")
    }
}

/// The objects of one selection. Reads never wait for the API; they see the newest revision that has arrived.
pub struct Cache {
    request: ListRequest,
    state: RwLock<State>,
    /// `None` until the first list is complete.
    revision: watch::Sender<Option<i64>>,
    // Held while a change is delivered, so that every handler sees all changes, each once and in order.
    handlers: Mutex<Vec<Handler>>,
    // Dropped with the cache, which ends the reflector.
    _reflector: ShutdownTrigger,
}

#[derive(Default)]
struct State {
    objects: BTreeSet<Entry>,
    indices: Vec<IndexState>,
}

enum Handler {
    Observer(Box<dyn Fn(&Change) + Send + Sync>),
    Queue(Weak<Queue>),
}

/// An object ordered and found by its key alone.
struct Entry(StoredObject);

impl Borrow<ObjectKey> for Entry {
    fn borrow(&self) -> &ObjectKey {
        self.0.key()
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Cache")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl Cache {
    pub(crate) fn new(request: ListRequest, reflector: ShutdownTrigger) -> Self {
        Self {
            request,
            state: RwLock::default(),
            revision: watch::Sender::new(None),
            handlers: Mutex::default(),
            _reflector: reflector,
        }
    }

    /// What the cache holds.
    pub fn request(&self) -> &ListRequest {
        &self.request
    }

    pub fn get(&self, key: &ObjectKey) -> Option<StoredObject> {
        self.state
            .read()
            .objects
            .get(key)
            .map(|entry| entry.0.clone())
    }

    /// Every object, ordered by namespace and name.
    pub fn list(&self) -> Vec<StoredObject> {
        self.state
            .read()
            .objects
            .iter()
            .map(|entry| entry.0.clone())
            .collect()
    }

    /// Every object of a namespace, ordered by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<StoredObject> {
        let first = ObjectKey::namespaced(namespace, "");
        let state = self.state.read();
        let after = state.objects.range::<ObjectKey, _>(&first..);
        after
            .take_while(|entry| entry.0.key().namespace == namespace)
            .map(|entry| entry.0.clone())
            .collect()
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets objects be found by `index`; doing it again changes nothing.
    pub fn add_index(&self, index: Index) {
        let mut state = self.state.write();
        if state
            .indices
            .iter()
            .any(|known| known.index.name == index.name)
        {
            return;
        }
        let mut built = IndexState::new(index);
        for entry in &state.objects {
            built.replace(None, Some(&entry.0));
        }
        state.indices.push(built);
    }

    /// The objects that `index` has under `value`, ordered by key. The index must have been added: nothing is found otherwise.
    pub fn find(&self, index: &Index, value: &str) -> Vec<StoredObject> {
        let state = self.state.read();
        let Some(built) = state
            .indices
            .iter()
            .find(|built| built.index.name == index.name)
        else {
            debug_assert!(false, "the cache has no index {}", index.name);
            return Vec::new();
        };
        let found = built.find(value).iter();
        found
            .filter_map(|entry| state.objects.get(&entry.key))
            .map(|entry| entry.0.clone())
            .collect()
    }

    /// How far the cache has come; `None` until the first list is complete.
    pub fn revision(&self) -> Option<i64> {
        *self.revision.borrow()
    }

    /// Whether there is something to go by: a server's word, or what is remembered of it.
    pub fn is_synced(&self) -> bool {
        self.revision().is_some()
    }

    /// Whether a server has told the whole selection.
    pub fn is_told(&self) -> bool {
        self.revision()
            .is_some_and(|revision| revision != REMEMBERED)
    }

    /// Returns once the first list is complete, or what is remembered stands in for it.
    pub async fn wait_for_sync(&self) {
        self.wait_for_revision(REMEMBERED).await;
    }

    /// Returns once a server has told the whole selection.
    pub async fn wait_until_told(&self) {
        self.wait_for_revision(REMEMBERED + 1).await;
    }

    /// Returns once everything up to `revision` is in the cache and its handlers have heard of it.
    ///
    /// In a cache with a selector that may last until the next bookmark, if the object of that revision is not selected.
    pub async fn wait_for_revision(&self, revision: i64) {
        let mut reached = self.revision.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let _reached = reached
            .wait_for(|reached| reached.is_some_and(|reached| reached >= revision))
            .await;
    }

    /// Returns once `holds` does; it is asked again whenever the cache has come further.
    pub async fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        let mut reached = self.revision.subscribe();
        while !holds(self) {
            // The sender lives in `self`, so that waiting cannot fail.
            let _changed = reached.changed().await;
        }
    }

    /// Calls `observer` for every object there is and then for every change, in order, for as long as the cache lives.
    ///
    /// It runs on the reflector's task: it must be quick, may read the cache, and must not add observers to it.
    pub fn observe(&self, observer: impl Fn(&Change) + Send + Sync + 'static) {
        self.add_handler(Handler::Observer(Box::new(observer)));
    }

    /// Changes to take at one's own pace, beginning with every object there is. Changes of one object that were not taken yet become one.
    pub fn subscribe(self: &Arc<Self>) -> Subscription {
        let queue = Arc::new(Queue::default());
        self.add_handler(Handler::Queue(Arc::downgrade(&queue)));
        Subscription::new(Arc::clone(self), queue)
    }

    fn add_handler(&self, handler: Handler) {
        let mut handlers = self.handlers.lock();
        for object in self.list() {
            handler.call(&Change {
                old: None,
                new: Some(object),
            });
        }
        handlers.push(handler);
    }

    /// The whole selection as of `revision`: what is not in `objects` is gone.
    pub(crate) fn replace_all(&self, objects: Vec<StoredObject>, revision: i64) {
        let mut handlers = self.handlers.lock();
        let listed: BTreeSet<Entry> = objects.into_iter().map(Entry).collect();
        let known = self.list();
        for object in known.iter().filter(|object| !listed.contains(object.key())) {
            self.store(Some(object), None);
            deliver(
                &mut handlers,
                &Change {
                    old: Some(object.clone()),
                    new: None,
                },
            );
        }
        for Entry(object) in listed {
            let old = self.get(object.key());
            // A store restored from a backup counts from an earlier revision: a list is the truth, older or not.
            if old.as_ref().is_none_or(|old| {
                old.revision != object.revision || old.index.uid != object.index.uid
            }) {
                self.put(&mut handlers, old, object);
            }
        }
        self.revision.send_replace(Some(revision));
    }

    pub(crate) fn upsert(&self, object: StoredObject) {
        let mut handlers = self.handlers.lock();
        let revision = object.revision;
        let old = self.get(object.key());
        if old.as_ref().is_none_or(|old| old.revision < revision) {
            self.put(&mut handlers, old, object);
        }
        self.reach(revision);
    }

    pub(crate) fn remove(&self, object: &StoredObject) {
        let mut handlers = self.handlers.lock();
        if let Some(old) = self.get(object.key()) {
            self.store(Some(&old), None);
            deliver(
                &mut handlers,
                &Change {
                    old: Some(object.clone()),
                    new: None,
                },
            );
        }
        self.reach(object.revision);
    }

    /// Everything up to `revision` has arrived.
    pub(crate) fn reach(&self, revision: i64) {
        self.revision.send_if_modified(|reached| {
            let is_further = reached.is_none_or(|reached| reached < revision);
            if is_further {
                *reached = Some(revision);
            }
            is_further
        });
    }

    fn put(&self, handlers: &mut Vec<Handler>, old: Option<StoredObject>, object: StoredObject) {
        self.store(old.as_ref(), Some(&object));
        deliver(
            handlers,
            &Change {
                old,
                new: Some(object),
            },
        );
    }

    fn store(&self, old: Option<&StoredObject>, new: Option<&StoredObject>) {
        let mut state = self.state.write();
        match (old, new) {
            (_, Some(new)) => drop(state.objects.replace(Entry(new.clone()))),
            (Some(old), None) => drop(state.objects.remove(old.key())),
            (None, None) => {}
        }
        for index in &mut state.indices {
            index.replace(old, new);
        }
    }
}

fn deliver(handlers: &mut Vec<Handler>, change: &Change) {
    handlers.retain(|handler| handler.call(change));
}

impl Handler {
    /// False if nobody listens any more.
    fn call(&self, change: &Change) -> bool {
        match self {
            Self::Observer(observer) => observer(change),
            Self::Queue(queue) => match queue.upgrade() {
                Some(queue) => queue.push(change),
                None => return false,
            },
        }
        true
    }
}

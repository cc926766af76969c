//! An API in memory for tests of clients: objects, revisions, watches and the verbs' main rules, without validation,
//! defaults, admission or authorization.

mod discovery;
mod line;
mod verbs;

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{
    ApiError, FieldSelector, GroupVersionResource, LabelSelector, Object, ObjectKey, StoredObject,
};
use async_trait::async_trait;
use env::Clock;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::{
    Client, ClientError, ListRequest, ObjectList, Request, Response, Transport, WatchEvent,
    WatchRequest, WatchStream,
};
pub use discovery::FakeResource;
pub use line::{FakeLine, LineState};

const WATCH_EVENTS_AHEAD: usize = 64;

/// Decides whether a request fails before it is carried out: quota, outages, missing rights.
pub type Refusal = Box<dyn Fn(&Request) -> Option<ApiError> + Send + Sync>;

/// The API; share it in an `Arc` and make clients of it.
pub struct FakeApi {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
    changes: watch::Sender<usize>,
    refusal: Mutex<Option<Refusal>>,
}

struct State {
    revision: i64,
    objects: BTreeMap<(GroupVersionResource, ObjectKey), StoredObject>,
    log: Vec<Change>,
    resources: Vec<FakeResource>,
    calls: Vec<Request>,
    /// Watches from before this revision are told that it expired.
    compacted: i64,
    uids: u64,
}

#[derive(Clone)]
struct Change {
    resource: GroupVersionResource,
    revision: i64,
    old: Option<StoredObject>,
    new: Option<StoredObject>,
}

impl std::fmt::Debug for FakeApi {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FakeApi")
    }
}

impl FakeApi {
    /// An empty API that serves the usual built-in resources.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            state: Arc::new(Mutex::new(State {
                revision: 1,
                objects: BTreeMap::new(),
                log: Vec::new(),
                resources: discovery::built_in(),
                calls: Vec::new(),
                compacted: 0,
                uids: 0,
            })),
            changes: watch::Sender::new(0),
            refusal: Mutex::new(None),
        })
    }

    pub fn client(self: &Arc<Self>) -> Client {
        Client::new(Arc::clone(self) as Arc<dyn Transport>)
    }

    /// From now on requests for which `refusal` gives an error fail with it.
    pub fn refuse(&self, refusal: Refusal) {
        *self.refusal.lock() = Some(refusal);
    }

    pub fn refuse_nothing(&self) {
        *self.refusal.lock() = None;
    }

    /// Serves one more resource, as a custom resource definition would.
    pub fn serve(&self, resource: FakeResource) {
        self.state.lock().resources.push(resource);
    }

    /// Makes every revision before the current one too old to watch from.
    pub fn compact(&self) {
        let mut state = self.state.lock();
        state.compacted = state.revision;
    }

    pub fn revision(&self) -> i64 {
        self.state.lock().revision
    }

    /// Every write asked for so far, also refused ones.
    pub fn writes(&self) -> Vec<Request> {
        self.state.lock().calls.clone()
    }

    /// The object as it is now.
    pub fn object(&self, resource: &GroupVersionResource, key: &ObjectKey) -> Option<Object> {
        let stored = self
            .state
            .lock()
            .objects
            .get(&(resource.clone(), key.clone()))
            .cloned()?;
        stored.to_object().ok()
    }

    pub fn objects(&self, resource: &GroupVersionResource) -> Vec<Object> {
        let state = self.state.lock();
        let of_resource = state.objects.iter().filter(|((of, _), _)| of == resource);
        of_resource
            .filter_map(|(_, stored)| stored.to_object().ok())
            .collect()
    }

    /// Returns once `holds` does; checked after each change.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.changes.subscribe();
        while !holds(self) {
            changes
                .changed()
                .await
                .expect("the API outlives the borrow of itself");
        }
    }
}

impl State {
    fn write(
        &mut self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        new: Option<&Object>,
    ) -> Result<StoredObject, ApiError> {
        self.revision += 1;
        let revision = self.revision;
        let slot = (resource.clone(), key.clone());
        let old = self.objects.remove(&slot);
        let new = new.map(|object| to_stored(object, revision)).transpose()?;
        if let Some(new) = &new {
            self.objects.insert(slot, new.clone());
        }
        let result = match (&old, &new) {
            (_, Some(new)) => new.clone(),
            (Some(old), None) => StoredObject {
                revision,
                ..old.clone()
            },
            (None, None) => return Err(ApiError::not_found(&resource.group_resource(), &key.name)),
        };
        self.log.push(Change {
            resource: resource.clone(),
            revision,
            old,
            new,
        });
        Ok(result)
    }
}

fn to_stored(object: &Object, revision: i64) -> Result<StoredObject, ApiError> {
    let mut object = object.clone();
    object.set_metadata_text("resourceVersion", "");
    let bytes = serde_json::to_vec(&object).map_err(ApiError::internal)?;
    StoredObject::new(bytes.into(), revision).map_err(ApiError::internal)
}

#[derive(Clone)]
struct Selection {
    resource: GroupVersionResource,
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    fn parse(request: &ListRequest) -> Result<Self, ApiError> {
        let bad = |error: apimachinery::SelectorError| ApiError::bad_request(error.to_string());
        Ok(Self {
            resource: request.resource.clone(),
            namespace: request.namespace.clone(),
            labels: LabelSelector::parse(&request.label_selector).map_err(bad)?,
            fields: FieldSelector::parse(&request.field_selector).map_err(bad)?,
        })
    }

    fn matches(&self, resource: &GroupVersionResource, object: &StoredObject) -> bool {
        let in_namespace = self
            .namespace
            .as_ref()
            .is_none_or(|ns| *ns == object.key().namespace);
        if *resource != self.resource || !in_namespace {
            return false;
        }
        if !self.labels.matches_with(|key| object.index.label(key)) {
            return false;
        }
        let tree = object.to_object().unwrap_or_default();
        self.fields.0.iter().all(|requirement| {
            let path: Vec<&str> = requirement.field.split('.').collect();
            (tree.text_at(&path) == requirement.value) == requirement.equal
        })
    }

    fn event(&self, change: &Change) -> Option<WatchEvent> {
        let matching = |object: &Option<StoredObject>| {
            object
                .clone()
                .filter(|object| self.matches(&change.resource, object))
        };
        match (matching(&change.old), matching(&change.new)) {
            (None, Some(new)) => Some(WatchEvent::Added(new)),
            (Some(_), Some(new)) => Some(WatchEvent::Modified(new)),
            (Some(old), None) => Some(WatchEvent::Deleted(StoredObject {
                revision: change.revision,
                ..old
            })),
            (None, None) => None,
        }
    }
}

#[async_trait]
impl Transport for FakeApi {
    async fn call(&self, request: Request) -> Result<Response, ClientError> {
        let refused = self
            .refusal
            .lock()
            .as_ref()
            .and_then(|refusal| refusal(&request));
        let mut state = self.state.lock();
        if request.method != crate::Method::Get {
            state.calls.push(request.clone());
        }
        let answer = match refused {
            Some(error) => Err(error),
            None => verbs::serve(&mut state, &request, self.clock.now()),
        };
        let count = state.log.len();
        drop(state);
        self.changes
            .send_if_modified(|seen| std::mem::replace(seen, count) != count);
        let (code, body) =
            answer.unwrap_or_else(|error| (error.code, error.to_status().to_string().into_bytes()));
        Ok(Response {
            code,
            body: body.into(),
            warnings: Vec::new(),
        })
    }

    async fn list(&self, request: ListRequest) -> Result<ObjectList, ClientError> {
        let selection = Selection::parse(&request)?;
        let state = self.state.lock();
        let items = state
            .objects
            .iter()
            .filter(|((resource, _), object)| selection.matches(resource, object))
            .map(|(_, object)| object.clone())
            .collect();
        Ok(ObjectList {
            items,
            revision: state.revision,
        })
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, ClientError> {
        let selection = Selection::parse(&request.list)?;
        let state = self.state.lock();
        if request.after_revision < state.compacted {
            return Err(ApiError::expired("too old resource version").into());
        }
        let mut seen = state
            .log
            .partition_point(|change| change.revision <= request.after_revision);
        drop(state);
        let state = Arc::clone(&self.state);
        let mut changes = self.changes.subscribe();
        let (sender, receiver) = mpsc::channel(WATCH_EVENTS_AHEAD);
        let follow = async move {
            loop {
                let batch = state.lock().log[seen..].to_vec();
                seen += batch.len();
                for event in batch.iter().filter_map(|change| selection.event(change)) {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    biased;
                    () = sender.closed() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
            }
        };
        env::spawn(follow);
        Ok(receiver)
    }
}

//! Which objects have which value in a field: so that asking for one value costs what has it, and not what there is.

use std::collections::{BTreeSet, HashMap};

use apimachinery::{ObjectKey, StoredObject};
use kv::{Event, KeyRange, Kv, RangeRequest, WatchMessage, WatchRequest, WatchStream};
use tokio::sync::Mutex;

use crate::memo::stored;
use crate::{Collection, ObjectStore, StorageError};

/// An index of one selectable field of a collection.
///
/// It follows the store with a watch that it reads only when it is asked, up to the revision of the question: an answer misses
/// nothing that was written before, and an index that nobody asks does nothing.
#[derive(Debug)]
pub struct FieldIndex {
    collection: Collection,
    field: &'static str,
    // The lock is held while the index catches up, for whoever else asks has to wait for that too.
    followed: Mutex<Option<Followed>>,
}

/// The state at a revision, and what follows.
#[derive(Debug)]
struct Followed {
    revision: i64,
    stream: WatchStream,
    values: HashMap<ObjectKey, Box<str>>,
    keys: HashMap<Box<str>, BTreeSet<ObjectKey>>,
}

/// The watch can say no more; what there is has to be read again.
struct Lost;

impl FieldIndex {
    pub fn new(collection: Collection, field: &'static str) -> Self {
        Self {
            collection,
            field,
            followed: Mutex::new(None),
        }
    }

    async fn keys(&self, kv: &dyn Kv, value: &str) -> Result<Vec<ObjectKey>, StorageError> {
        // A consistent read: what this process sees may be behind a store that others write to as well.
        let nothing = RangeRequest::newest(KeyRange::key(self.collection.prefix.clone()));
        let wanted = kv.range(nothing).await?.revision;
        let mut followed = self.followed.lock().await;
        let is_current = match followed.as_mut() {
            Some(followed) => self.catch_up(followed, wanted).await.is_ok(),
            None => false,
        };
        if !is_current {
            *followed = None;
            *followed = Some(self.load(kv).await?);
        }
        let keys = followed
            .as_ref()
            .and_then(|followed| followed.keys.get(value));
        Ok(keys.into_iter().flatten().cloned().collect())
    }

    async fn load(&self, kv: &dyn Kv) -> Result<Followed, StorageError> {
        let range = KeyRange::prefix(self.collection.prefix.clone());
        let all = kv.range(RangeRequest::newest(range.clone())).await?;
        let request = WatchRequest {
            range,
            start_revision: Some(all.revision + 1),
        };
        let mut followed = Followed {
            revision: all.revision,
            stream: kv.watch(request).await?,
            values: HashMap::new(),
            keys: HashMap::new(),
        };
        for entry in &all.entries {
            followed.set(&stored(entry, &self.collection)?, self.field);
        }
        Ok(followed)
    }

    async fn catch_up(&self, followed: &mut Followed, wanted: i64) -> Result<(), Lost> {
        while followed.revision < wanted {
            // A full queue means that a question is on its way already.
            let _asked = followed.stream.progress.0.try_send(());
            match followed.stream.messages.recv().await {
                Some(WatchMessage::Events(events)) => {
                    for event in &*events {
                        self.take(followed, event)?;
                        followed.revision = event.revision();
                    }
                }
                Some(WatchMessage::Progress(revision)) => {
                    followed.revision = followed.revision.max(revision);
                }
                Some(WatchMessage::Compacted { .. }) | None => return Err(Lost),
            }
        }
        Ok(())
    }

    fn take(&self, followed: &mut Followed, event: &Event) -> Result<(), Lost> {
        match event {
            Event::Put { entry, .. } => {
                let object = stored(entry, &self.collection).map_err(|_corrupt| Lost)?;
                followed.set(&object, self.field);
            }
            Event::Delete { key, .. } => {
                if let Some(key) = self.collection.object_key(key) {
                    followed.remove(&key);
                }
            }
        }
        Ok(())
    }
}

impl Followed {
    fn set(&mut self, object: &StoredObject, field: &str) {
        let key = object.key();
        let value = object.index.field(field).unwrap_or_default();
        if self.values.get(key).is_some_and(|known| **known == *value) {
            return;
        }
        self.remove(key);
        self.values.insert(key.clone(), value.into());
        self.keys
            .entry(value.into())
            .or_default()
            .insert(key.clone());
    }

    fn remove(&mut self, key: &ObjectKey) {
        let Some(value) = self.values.remove(key) else {
            return;
        };
        if let Some(keys) = self.keys.get_mut(&value) {
            keys.remove(key);
            if keys.is_empty() {
                self.keys.remove(&value);
            }
        }
    }
}

impl ObjectStore {
    /// The objects whose indexed field has the value.
    pub async fn with_field(
        &self,
        index: &FieldIndex,
        value: &str,
    ) -> Result<Vec<StoredObject>, StorageError> {
        let mut found = Vec::new();
        for key in index.keys(&*self.kv, value).await? {
            match self.get(&index.collection, &key).await {
                Ok(object) if object.index.field(index.field) == Some(value) => found.push(object),
                // It went, or changed, after the question.
                Ok(_) | Err(StorageError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

//! Watches: changes in order, as a selector sees them. The events share the store's bytes.

use std::collections::VecDeque;

use apimachinery::{ApiError, StoredObject};
use kv::{Event, WatchMessage};
use tokio::sync::watch as signal;

use crate::memo::stored;
use crate::{Collection, ListOptions, Matching, ObjectStore, StorageError};

#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added(StoredObject),
    Modified(StoredObject),
    /// The last state that the watcher could see, with the revision at which it went.
    Deleted(StoredObject),
    /// Everything up to the revision was delivered.
    Bookmark {
        revision: i64,
        initial_events_end: bool,
    },
    /// Nothing follows.
    Error(ApiError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchStart {
    /// What is there now, as `ADDED`, and then what changes.
    State,
    /// The same, with a bookmark between the two.
    StateThenBookmark,
    /// What changed after a revision.
    After(i64),
}

#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// `None`: all namespaces, or a cluster-wide kind.
    pub namespace: Option<String>,
    pub matching: Matching,
    pub start: WatchStart,
    pub bookmarks: bool,
}

/// A running watch; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    stream: kv::WatchStream,
    collection: Collection,
    matching: Matching,
    ready: VecDeque<WatchEvent>,
    ticks: Option<signal::Receiver<()>>,
    /// The revision of the last event or bookmark that was delivered.
    told: i64,
}

impl ObjectStore {
    pub async fn watch(
        &self,
        collection: &Collection,
        options: WatchOptions,
    ) -> Result<Watch, StorageError> {
        let mut ready = VecDeque::new();
        let after = match options.start {
            WatchStart::After(revision) => revision,
            WatchStart::State | WatchStart::StateThenBookmark => {
                let list = ListOptions {
                    namespace: options.namespace.clone(),
                    matching: options.matching.clone(),
                    ..ListOptions::default()
                };
                let list = self.list(collection, &list).await?;
                ready.extend(list.items.into_iter().map(WatchEvent::Added));
                list.revision
            }
        };
        if options.start == WatchStart::StateThenBookmark {
            ready.push_back(WatchEvent::Bookmark {
                revision: after,
                initial_events_end: true,
            });
        }
        let range = collection.range(options.namespace.as_deref());
        let stream = self
            .kv
            .watch(kv::WatchRequest {
                range,
                start_revision: Some(after + 1),
            })
            .await?;
        Ok(Watch {
            stream,
            collection: collection.clone(),
            matching: options.matching,
            ready,
            ticks: options.bookmarks.then(|| self.ticker.subscribe(&self.kv)),
            told: after,
        })
    }
}

impl Watch {
    /// The next event; `None` when the store closes. Cancel safe.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            tokio::select! {
                biased;
                message = self.stream.messages.recv() => self.take(message?),
                () = ticked(&mut self.ticks) => {
                    // A full queue means that a question is on its way already.
                    let _asked = self.stream.progress.0.try_send(());
                }
            }
        }
    }

    fn take(&mut self, message: WatchMessage) {
        match message {
            WatchMessage::Events(events) => {
                for event in &*events {
                    self.translate(event);
                }
            }
            WatchMessage::Progress(revision) => {
                if revision > self.told && self.ticks.is_some() {
                    self.told = revision;
                    self.ready.push_back(WatchEvent::Bookmark {
                        revision,
                        initial_events_end: false,
                    });
                }
            }
            WatchMessage::Compacted { .. } => {
                self.ready
                    .push_back(WatchEvent::Error(StorageError::Compacted.into()));
            }
        }
    }

    /// An object that comes into the selector's view was added, one that leaves it was deleted, whatever was done to it.
    fn translate(&mut self, event: &Event) {
        match self.as_seen(event) {
            Ok(None) => {}
            Ok(Some(seen)) => {
                self.told = event.revision();
                self.ready.push_back(seen);
            }
            Err(error) => self.ready.push_back(WatchEvent::Error(error.into())),
        }
    }

    fn as_seen(&self, event: &Event) -> Result<Option<WatchEvent>, StorageError> {
        let seen =
            |entry: &std::sync::Arc<kv::Entry>| -> Result<Option<StoredObject>, StorageError> {
                let object = stored(entry, &self.collection)?;
                Ok(self.matching.matches(&object.index).then_some(object))
            };
        let (new, previous) = match event {
            Event::Put { entry, previous } => (seen(entry)?, previous),
            Event::Delete { previous, .. } => (None, previous),
        };
        let old = previous.as_ref().map(seen).transpose()?.flatten();
        Ok(match (new, old) {
            (Some(new), None) => Some(WatchEvent::Added(new)),
            (Some(new), Some(_)) => Some(WatchEvent::Modified(new)),
            (None, Some(old)) => Some(WatchEvent::Deleted(StoredObject {
                revision: event.revision(),
                ..old
            })),
            (None, None) => None,
        })
    }
}

async fn ticked(ticks: &mut Option<signal::Receiver<()>>) {
    match ticks {
        Some(ticks) => {
            if ticks.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

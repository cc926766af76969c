//! Keeps one cache current: list once, watch on from there, resume a watch that ends, list again only when history is gone.

use std::sync::{Arc, Weak};
use std::time::Duration;

use env::{Rng, Shutdown};
use kube_client::{Client, ClientError, ListRequest, WatchEvent, WatchRequest};

use crate::Cache;

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Reflector {
    pub(crate) client: Client,
    pub(crate) request: ListRequest,
    pub(crate) cache: Weak<Cache>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) shutdown: Shutdown,
}

/// How a watch ended.
enum End {
    /// The history it needs is gone.
    Expired,
    /// By the server's timeout or a broken connection, after `progress` or at once.
    Closed { progress: bool },
}

impl Reflector {
    /// Runs until nobody holds the cache.
    pub(crate) async fn run(self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut backoff = Backoff {
            next: BACKOFF_FIRST,
        };
        loop {
            let Some(mut revision) = self.list(&mut backoff).await else {
                return;
            };
            loop {
                match self.watch(&mut revision).await {
                    Ok(End::Closed { progress: true }) => backoff.reset(),
                    Ok(End::Closed { progress: false }) => self.pause(&mut backoff).await,
                    Ok(End::Expired) => {
                        self.pause(&mut backoff).await;
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(resource = %self.request.resource.resource, %error, "watch failed");
                        self.pause(&mut backoff).await;
                    }
                }
            }
        }
    }

    /// Lists until it succeeds; the revision of the list. `None` if the cache is gone.
    async fn list(&self, backoff: &mut Backoff) -> Option<i64> {
        loop {
            match self.client.list(self.request.clone()).await {
                Ok(list) => {
                    self.cache.upgrade()?.replace_all(list.items, list.revision);
                    return Some(list.revision);
                }
                Err(error) => {
                    tracing::warn!(resource = %self.request.resource.resource, %error, "list failed");
                    self.pause(backoff).await;
                }
            }
        }
    }

    async fn watch(&self, revision: &mut i64) -> Result<End, ClientError> {
        let request = WatchRequest {
            list: self.request.clone(),
            after_revision: *revision,
        };
        let mut stream = match self.client.watch(request).await {
            Ok(stream) => stream,
            Err(error) if error.api().is_some_and(apimachinery::ApiError::is_expired) => {
                return Ok(End::Expired);
            }
            Err(error) => return Err(error),
        };
        let mut progress = false;
        while let Some(event) = stream.recv().await {
            let Some(cache) = self.cache.upgrade() else {
                break;
            };
            let reached = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let reached = object.revision;
                    cache.upsert(object);
                    reached
                }
                WatchEvent::Deleted(object) => {
                    cache.remove(&object);
                    object.revision
                }
                WatchEvent::Bookmark(reached) => {
                    cache.reach(reached);
                    reached
                }
                WatchEvent::Error(error) if error.is_expired() => return Ok(End::Expired),
                WatchEvent::Error(error) => return Err(error.into()),
            };
            *revision = reached.max(*revision);
            progress = true;
        }
        Ok(End::Closed { progress })
    }

    async fn pause(&self, backoff: &mut Backoff) {
        env::sleep(backoff.next(&*self.rng)).await;
    }
}

/// Doubles from the first to the longest pause; each is stretched by chance up to twice, so that clients spread.
struct Backoff {
    next: Duration,
}

impl Backoff {
    fn next(&mut self, rng: &dyn Rng) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(BACKOFF_MAX);
        let stretch = rng.below(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        pause + Duration::from_millis(stretch)
    }

    fn reset(&mut self) {
        self.next = BACKOFF_FIRST;
    }
}

//! Keeps one cache current: list once, watch on from there, resume a watch that ends, list again only when history is gone.

use std::sync::{Arc, Weak};
use std::time::Duration;

use env::{Rng, Shutdown};
use kube_client::{Client, ClientError, ListRequest, WatchEvent, WatchRequest};

use crate::cache::REMEMBERED;
use crate::reach::{Reach, is_silence};
use crate::{Cache, Memory};

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The caches of a process do not all come at once when a server is back.
const SPREAD_MILLIS: u64 = 500;

pub(crate) struct Reflector {
    pub(crate) client: Client,
    pub(crate) request: ListRequest,
    pub(crate) cache: Weak<Cache>,
    pub(crate) reach: Arc<Reach>,
    pub(crate) memory: Option<Memory>,
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
        let mut forgotten = self.memory.clone();
        loop {
            let Some(mut revision) = self.list(&mut backoff, &mut forgotten).await else {
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
                        self.failed(&error, "watch failed");
                        self.pause(&mut backoff).await;
                    }
                }
            }
        }
    }

    /// Lists until it succeeds; the revision of the list. `None` if the cache is gone.
    ///
    /// A cache that has nothing yet is filled with what is remembered when the first answer is late or none.
    async fn list(&self, backoff: &mut Backoff, forgotten: &mut Option<Memory>) -> Option<i64> {
        loop {
            let mut answer = std::pin::pin!(self.client.list(self.request.clone()));
            let in_time = tokio::select! {
                biased;
                answer = &mut answer => Some(answer),
                () = self.reach.too_late(), if forgotten.is_some() => None,
            };
            let answer = if let Some(answer) = in_time {
                answer
            } else {
                self.recall(forgotten).await?;
                answer.await
            };
            match answer {
                Ok(list) => {
                    self.reach.answered();
                    *forgotten = None;
                    self.cache.upgrade()?.replace_all(list.items, list.revision);
                    if let Some(memory) = &self.memory {
                        memory.listed(&self.request);
                    }
                    return Some(list.revision);
                }
                Err(error) => {
                    self.failed(&error, "list failed");
                    if is_silence(&error) {
                        self.recall(forgotten).await?;
                    }
                    self.pause(backoff).await;
                }
            }
        }
    }

    /// Fills the cache with what is remembered, once, if anything is. `None` if the cache is gone.
    async fn recall(&self, forgotten: &mut Option<Memory>) -> Option<()> {
        let Some(memory) = forgotten.take() else {
            return Some(());
        };
        let request = self.request.clone();
        let read = env::spawn_blocking(move || memory.recall(&request));
        // A panic in it is a mistake in the memory: the server's word will do.
        let remembered = read.await.ok().flatten();
        if let Some(objects) = remembered {
            tracing::info!(resource = %self.request.resource.resource, objects = objects.len(),
                "until a server answers, what is remembered counts");
            self.cache.upgrade()?.replace_all(objects, REMEMBERED);
        }
        Some(())
    }

    fn failed(&self, error: &ClientError, what: &str) {
        self.reach
            .failed(error, what, &self.request.resource.resource);
    }

    async fn watch(&self, revision: &mut i64) -> Result<End, ClientError> {
        let request = WatchRequest {
            list: self.request.clone(),
            after_revision: *revision,
        };
        let mut stream = match self.client.watch(request).await {
            Ok(stream) => {
                self.reach.answered();
                stream
            }
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

    /// Waits, but not when another cache has heard of the server meanwhile.
    async fn pause(&self, backoff: &mut Backoff) {
        let pause = backoff.next(&*self.rng);
        let heard = async {
            self.reach.heard_again().await;
            env::sleep(Duration::from_millis(self.rng.below(SPREAD_MILLIS))).await;
        };
        tokio::select! {
            biased;
            () = env::sleep(pause) => {}
            () = heard => backoff.reset(),
        }
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

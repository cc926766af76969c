//! Keeps the mirror in step: one watch from the revision that it has, another one at the next member when that ends, and the whole list again only
//! when etcd has forgotten what is missing.

use std::sync::{Arc, Weak};
use std::time::Duration;

use env::Rng;
use etcd::proto::etcdserverpb as pb;
use kv::{Entry, KeyRange, Revision};
use tokio::sync::watch;
use tonic::Status;

use crate::client::{Client, Repeat};
use crate::mirror::Mirror;
use crate::seals::Seals;
use crate::watching::{Before, Ended, Told, Watching};
use crate::wire::{self, header_revision, range_end, range_start};

/// How often progress is asked for while somebody waits for it.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// A watch that somebody waits for this long is given up: its member is cut off, or its connection is dead.
const STALL_TIME_MAX: Duration = Duration::from_secs(3);
/// Between two tries to begin a watch.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Entries in one answer while the list is read: the first page is small, so that it comes soon.
const PAGE_ENTRIES_MIN: i64 = 500;
const PAGE_ENTRIES_MAX: i64 = 10_000;

pub(crate) struct Follower {
    pub(crate) client: Client,
    pub(crate) mirror: Weak<Mirror>,
    pub(crate) seals: Arc<Seals>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) closed: watch::Receiver<bool>,
}

impl Follower {
    /// Runs until the store is closed.
    pub(crate) async fn run(mut self) {
        let mut closed = self.closed.clone();
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        let mut pause = Duration::ZERO;
        loop {
            let Some(mirror) = self.mirror.upgrade() else {
                return;
            };
            let connections = self.client.connections().await;
            let before = mirror.revision();
            let ended = self.session(&mirror).await;
            if mirror.revision() > before {
                pause = Duration::ZERO;
            }
            match ended {
                Ended::Compacted(compact_revision) => {
                    tracing::warn!(
                        compact_revision,
                        revision = before,
                        "etcd has compacted what this server has not seen yet: everything is read again"
                    );
                    self.read_again(&mirror).await;
                }
                Ended::Lost(why) => {
                    tracing::warn!(why, "the watch of etcd ended; it goes on at another member");
                    self.client.leave(connections).await;
                }
            }
            drop(mirror);
            env::sleep(self.jittered(pause)).await;
            pause = (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        }
    }

    /// Between half and the whole of it.
    fn jittered(&self, pause: Duration) -> Duration {
        let half = u64::try_from(pause.as_millis() / 2).unwrap_or_default();
        pause / 2 + Duration::from_millis(self.rng.below(half + 1))
    }

    async fn session(&self, mirror: &Mirror) -> Ended {
        let start = mirror.revision() + 1;
        match Watching::begin(&self.client, &mirror.range, start, Before::Known).await {
            Ok(mut watching) => match self.listen(mirror, &mut watching).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            },
            Err(ended) => ended,
        }
    }

    async fn listen(
        &self,
        mirror: &Mirror,
        watching: &mut Watching,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut wanted = mirror.wanted();
        let mut waited = Duration::ZERO;
        loop {
            let is_wanted = *wanted.borrow_and_update() > mirror.revision();
            if is_wanted {
                watching.ask_progress();
            } else {
                waited = Duration::ZERO;
            }
            tokio::select! {
                biased;
                told = watching.next(&self.seals) => match told? {
                    Told::Changes(changes) => {
                        waited = Duration::ZERO;
                        mirror.follow(changes.into_iter().map(|(change, _)| change).collect());
                    }
                    Told::Progress(revision) => mirror.pass(revision),
                },
                _ = wanted.changed() => {}
                () = env::sleep(ASK_EVERY), if is_wanted => waited += ASK_EVERY,
            }
            if waited >= STALL_TIME_MAX {
                return Err(Ended::Lost(format!(
                    "nothing came for {} s although there is more",
                    STALL_TIME_MAX.as_secs()
                )));
            }
        }
    }

    /// Tries until it succeeds.
    async fn read_again(&self, mirror: &Mirror) {
        let mut pause = PAUSE_MIN;
        loop {
            match list(&self.client, &mirror.range, &self.seals).await {
                Ok((entries, revision)) => return mirror.restart(entries, revision),
                Err(status) => {
                    tracing::warn!(error = status.message(), "etcd's content cannot be read");
                }
            }
            env::sleep(self.jittered(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// What a range holds at one revision, page by page.
pub(crate) async fn list(
    client: &Client,
    range: &KeyRange,
    seals: &Seals,
) -> Result<(Vec<Arc<Entry>>, Revision), Status> {
    let mut request = pb::RangeRequest {
        key: range_start(range),
        range_end: range_end(range),
        limit: PAGE_ENTRIES_MIN,
        ..pb::RangeRequest::default()
    };
    let mut entries = Vec::new();
    loop {
        let answer = client
            .call(
                Repeat::Allowed,
                request.clone(),
                |client, request| async move { client.kv().range(request).await },
            )
            .await?;
        if request.revision == 0 {
            request.revision = header_revision(answer.header.as_ref());
        }
        let more = answer.more;
        entries.extend(answer.kvs.into_iter().map(|kv| wire::entry(kv, seals)));
        match entries.last() {
            Some(last) if more => {
                request.key = [&last.key, &b"\0"[..]].concat();
                request.limit = (request.limit * 2).min(PAGE_ENTRIES_MAX);
            }
            _ => return Ok((entries, request.revision)),
        }
    }
}

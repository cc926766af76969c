//! A watch that begins before the mirror does: etcd tells what was, and the mirror goes on from where it knows everything.

use std::sync::Arc;

use kv::{Event, KeyRange, Revision, WATCH_QUEUE_MAX, WatchMessage, WatchRequest, WatchStream};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::mirror::{Change, Mirror};
use crate::seals::Seals;
use crate::watching::{Before, Ended, Told, Watching};

/// How long etcd may take until everything old is told.
const STEP_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10);
const PROGRESS_REQUESTS_MAX: usize = 4;

pub(crate) struct History {
    pub(crate) client: Client,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) seals: Arc<Seals>,
    pub(crate) range: KeyRange,
}

/// The reader is gone, or the watch is over.
struct Over;

impl History {
    /// Starts a watch from `start` on; its task runs on the caller's runtime.
    pub(crate) fn watch(self, start: Revision) -> WatchStream {
        let (queue, messages) = mpsc::channel(WATCH_QUEUE_MAX);
        let (progress, requests) = mpsc::channel(PROGRESS_REQUESTS_MAX);
        env::spawn(async move {
            let _over = self.run(start, queue, requests).await;
        });
        WatchStream {
            messages,
            progress: kv::ProgressRequester(progress),
        }
    }

    async fn run(
        self,
        start: Revision,
        queue: mpsc::Sender<WatchMessage>,
        requests: mpsc::Receiver<()>,
    ) -> Result<(), Over> {
        let through = self.mirror.revision();
        match self.past(start, through, &queue).await? {
            Ok(()) => {}
            Err(Ended::Compacted(compact_revision)) => {
                let message = WatchMessage::Compacted { compact_revision };
                return queue.send(message).await.map_err(|_gone| Over);
            }
            // The reader begins again, and meets the error there.
            Err(Ended::Lost(why)) => {
                tracing::warn!(why, "a watch of the past ended early");
                return Err(Over);
            }
        }
        let rest = WatchRequest {
            range: self.range.clone(),
            start_revision: Some(start.max(through + 1)),
        };
        let rest = self.mirror.replica.watch(rest).map_err(|_closed| Over)?;
        pass_on(rest, queue, requests).await
    }

    /// Tells what happened from `start` to `through`.
    async fn past(
        &self,
        start: Revision,
        through: Revision,
        queue: &mpsc::Sender<WatchMessage>,
    ) -> Result<Result<(), Ended>, Over> {
        let begun = Watching::begin(&self.client, &self.range, start, Before::Wanted).await;
        let mut watching = match begun {
            Ok(watching) => watching,
            Err(ended) => return Ok(Err(ended)),
        };
        loop {
            watching.ask_progress();
            let told = tokio::select! {
                biased;
                () = queue.closed() => return Err(Over),
                told = env::timeout(STEP_TIME_MAX, next_soon(&mut watching, &self.seals)) => told,
            };
            match told {
                Ok(Ok(Told::Changes(changes))) => {
                    let last = changes.last().map_or(0, |(change, _)| change.revision);
                    let events: Vec<Event> = changes
                        .into_iter()
                        .filter(|(change, _)| change.revision <= through)
                        .map(|(change, previous)| event(change, previous))
                        .collect();
                    if !events.is_empty() {
                        let message = WatchMessage::Events(events.into());
                        queue.send(message).await.map_err(|_gone| Over)?;
                    }
                    if last >= through {
                        return Ok(Ok(()));
                    }
                }
                Ok(Ok(Told::Progress(revision))) if revision >= through => return Ok(Ok(())),
                Ok(Ok(Told::Progress(_))) => {}
                Ok(Err(ended)) => return Ok(Err(ended)),
                Err(_timed_out) => {
                    return Ok(Err(Ended::Lost("etcd does not tell the past".to_owned())));
                }
            }
        }
    }
}

/// Asks for progress again while nothing comes: a watch that is not in step yet does not answer.
pub(crate) async fn next_soon(watching: &mut Watching, seals: &Seals) -> Result<Told, Ended> {
    const ASK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);
    loop {
        tokio::select! {
            biased;
            told = watching.next(seals) => return told,
            () = env::sleep(ASK_EVERY) => watching.ask_progress(),
        }
    }
}

fn event(change: Change, previous: Option<Arc<kv::Entry>>) -> Event {
    match change.entry {
        Some(entry) => Event::Put { entry, previous },
        None => Event::Delete {
            key: change.key,
            revision: change.revision,
            previous,
        },
    }
}

/// Hands on everything in order, and requests for progress in the other direction.
async fn pass_on(
    mut from: WatchStream,
    to: mpsc::Sender<WatchMessage>,
    mut requests: mpsc::Receiver<()>,
) -> Result<(), Over> {
    let mut may_ask = true;
    loop {
        tokio::select! {
            biased;
            () = to.closed() => return Err(Over),
            message = from.messages.recv() => {
                let message = message.ok_or(Over)?;
                to.send(message).await.map_err(|_gone| Over)?;
            }
            asked = requests.recv(), if may_ask => match asked {
                Some(()) => {
                    let _asked = from.progress.0.try_send(());
                }
                None => may_ask = false,
            },
        }
    }
}

//! The way to the client of one stream of watches: all answers go through one queue, and progress never falls behind the events before it.

use std::sync::{Arc, Mutex, PoisonError};

use kv::Revision;
use tokio::sync::mpsc;
use tonic::Status;

use crate::proto::etcdserverpb as pb;

pub(crate) type Answer = Result<pb::WatchResponse, Status>;

#[derive(Clone)]
pub(crate) struct Outlet {
    queue: mpsc::Sender<Answer>,
    /// The newest revision that an answer with events had. Held while such an answer goes into the queue.
    told: Arc<Mutex<Revision>>,
}

/// The client is gone, or does not want to hear more.
pub(crate) struct Gone;

/// What became of an answer about the progress of all watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Yes,
    /// Events of later revisions went first: a client that read its revision would go back.
    TooLate,
}

impl Outlet {
    pub(crate) fn new(queue: mpsc::Sender<Answer>) -> Self {
        Self {
            queue,
            told: Arc::default(),
        }
    }

    pub(crate) async fn closed(&self) {
        self.queue.closed().await;
    }

    pub(crate) async fn say(&self, answer: pb::WatchResponse) -> Result<(), Gone> {
        self.queue.send(Ok(answer)).await.map_err(|_gone| Gone)
    }

    /// The last answer of the stream.
    pub(crate) async fn end(&self, status: Status) {
        let _gone = self.queue.send(Err(status)).await;
    }

    pub(crate) async fn say_events(&self, answer: pb::WatchResponse) -> Result<(), Gone> {
        let place = self.queue.reserve().await.map_err(|_gone| Gone)?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        *told = revision(&answer).max(*told);
        place.send(Ok(answer));
        Ok(())
    }

    pub(crate) async fn say_progress(&self, answer: pb::WatchResponse) -> Result<Said, Gone> {
        let place = self.queue.reserve().await.map_err(|_gone| Gone)?;
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if revision(&answer) < *told {
            return Ok(Said::TooLate);
        }
        place.send(Ok(answer));
        Ok(Said::Yes)
    }
}

fn revision(answer: &pb::WatchResponse) -> Revision {
    answer.header.map_or(0, |header| header.revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: Revision) -> pb::WatchResponse {
        pb::WatchResponse {
            header: Some(pb::ResponseHeader {
                revision,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn progress_behind_the_events_before_it_is_not_said() {
        let (queue, mut answers) = mpsc::channel(4);
        let outlet = Outlet::new(queue);
        let test = async {
            outlet.say_events(at(5)).await?;
            let late = outlet.say_progress(at(4)).await?;
            let in_time = outlet.say_progress(at(5)).await?;
            Ok::<_, Gone>((late, in_time))
        };
        let said = futures_util::FutureExt::now_or_never(test).expect("there is room");
        assert!(matches!(said, Ok((Said::TooLate, Said::Yes))));
        let revisions: Vec<_> = std::iter::from_fn(|| answers.try_recv().ok())
            .map(|answer| revision(&answer.expect("an answer")))
            .collect();
        assert_eq!(revisions, [5, 5]);
    }
}

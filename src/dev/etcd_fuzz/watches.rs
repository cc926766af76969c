//! One stream of watches at one server: its events by watch, and its answers about watches in order.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use etcd_testing::pb::watch_request::RequestUnion;
use etcd_testing::{Client, mvccpb, pb};
use futures_util::stream;
use tokio::sync::mpsc;
use tonic::Status;

use crate::answers::normal_header;

/// What is due comes within this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// etcd leaves a question about progress without an answer while a watch lags; it is asked again after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(25);

pub(crate) type Events = BTreeMap<i64, Vec<mvccpb::Event>>;

pub(crate) struct Watches {
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
    answers: mpsc::Receiver<Result<pb::WatchResponse, Status>>,
    /// What came since it was last compared.
    events: Events,
    /// The last revision of each watch, and whether more of it is to follow.
    reached: BTreeMap<i64, (i64, bool)>,
}

impl Watches {
    pub(crate) fn open(client: &Client) -> Self {
        let (requests, mut queue) = mpsc::unbounded_channel();
        let queue = stream::poll_fn(move |context| queue.poll_recv(context));
        Self {
            requests,
            answers: client.stream(queue),
            events: Events::new(),
            reached: BTreeMap::new(),
        }
    }

    fn ask(&self, request: RequestUnion) -> anyhow::Result<()> {
        let request_union = Some(request);
        self.requests
            .send(pb::WatchRequest { request_union })
            .context("the stream is over")
    }

    /// What is said about a new watch: that it is there, and that it ended at once, if it must.
    pub(crate) async fn create(
        &mut self,
        request: &pb::WatchCreateRequest,
        compacted: i64,
    ) -> anyhow::Result<Vec<pb::WatchResponse>> {
        self.ask(RequestUnion::CreateRequest(request.clone()))?;
        let created = self.answer(|answer| answer.created).await?;
        let ends = (1..compacted).contains(&request.start_revision) && !created.canceled;
        let id = created.watch_id;
        let mut said = vec![created];
        if ends {
            said.push(
                self.answer(|answer| answer.canceled && answer.watch_id == id)
                    .await?,
            );
        }
        Ok(said)
    }

    pub(crate) async fn cancel(&mut self, id: i64) -> anyhow::Result<pb::WatchResponse> {
        let request = pb::WatchCancelRequest { watch_id: id };
        self.ask(RequestUnion::CancelRequest(request))?;
        self.reached.remove(&id);
        self.answer(|answer| answer.canceled && answer.watch_id == id)
            .await
    }

    /// Waits until all watches have reached a revision, and takes their events.
    pub(crate) async fn settle(&mut self, revision: i64) -> anyhow::Result<Events> {
        let deadline = std::time::Instant::now() + ANSWER_TIME_MAX;
        loop {
            self.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))?;
            let is_reached = |answer: &pb::WatchResponse| {
                let header = answer.header.unwrap_or_default();
                is_progress(answer) && header.revision >= revision
            };
            match env::timeout(ASK_AGAIN_AFTER, self.first(&is_reached)).await {
                Ok(found) => {
                    let reached = found?.header.unwrap_or_default().revision;
                    ensure!(reached == revision, "progress to {reached}, at {revision}");
                    return Ok(std::mem::take(&mut self.events));
                }
                Err(_) if std::time::Instant::now() > deadline => {
                    bail!("no progress to {revision} within {ANSWER_TIME_MAX:?}");
                }
                Err(_) => {}
            }
        }
    }

    async fn answer(
        &mut self,
        is_it: impl Fn(&pb::WatchResponse) -> bool,
    ) -> anyhow::Result<pb::WatchResponse> {
        let mut found = env::timeout(ANSWER_TIME_MAX, self.first(&is_it))
            .await
            .map_err(|_| anyhow::anyhow!("no answer about a watch within {ANSWER_TIME_MAX:?}"))??;
        normal_header(&mut found.header);
        Ok(found)
    }

    /// The first such answer; what else comes are events and progress.
    async fn first(
        &mut self,
        is_it: &impl Fn(&pb::WatchResponse) -> bool,
    ) -> anyhow::Result<pb::WatchResponse> {
        loop {
            let answer = self.answers.recv().await;
            let answer = answer
                .context("the stream is over")?
                .context("the stream ended")?;
            if is_it(&answer) {
                return Ok(answer);
            }
            if answer.created || answer.canceled {
                bail!("not asked for: {answer:?}");
            }
            self.keep(answer)?;
        }
    }

    /// Notes events, and that no revision is in two answers and none is out of order.
    fn keep(&mut self, answer: pb::WatchResponse) -> anyhow::Result<()> {
        let revision = |event: &mvccpb::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let (Some(first), Some(last)) = (answer.events.first(), answer.events.last()) else {
            return Ok(());
        };
        let (first, last) = (revision(first), revision(last));
        let (reached, follows) = self
            .reached
            .get(&answer.watch_id)
            .copied()
            .unwrap_or((0, false));
        let in_order = first > reached || first == reached && follows;
        ensure!(
            in_order && answer.events.is_sorted_by_key(revision),
            "watch {} was at {reached} and hears of {first} to {last}",
            answer.watch_id
        );
        let header = answer.header.unwrap_or_default().revision;
        ensure!(
            header >= last,
            "the header says {header}, the events reach {last}"
        );
        self.reached
            .insert(answer.watch_id, (last, answer.fragment));
        self.events
            .entry(answer.watch_id)
            .or_default()
            .extend(answer.events);
        Ok(())
    }
}

fn is_progress(answer: &pb::WatchResponse) -> bool {
    answer.watch_id == -1 && answer.events.is_empty() && !answer.created && !answer.canceled
}

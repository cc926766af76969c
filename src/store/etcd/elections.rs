//! The service Election.

use std::sync::Arc;

use futures_util::stream;
use kv::{Event, KeyRange, Operation, Revision, Txn};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, async_trait};

use crate::core::Core;
use crate::proto::v3electionpb as pb;
use crate::proto::v3electionpb::election_server::Election;
use crate::queues::{made_at, prefix};
use crate::ranges::key_value;
use crate::services::Answers;
use crate::transactions::single;

/// Answers that wait for a client that observes.
const OBSERVED_MAX: usize = 4;

fn leader_of(leader: Option<pb::LeaderKey>) -> Result<pb::LeaderKey, Status> {
    leader.ok_or_else(|| Status::unknown("\"leader\" field must be provided"))
}

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

#[async_trait]
impl Election for Core {
    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let request = request.into_inner();
        let place = self
            .take_place(&request.name, request.lease, &request.value)
            .await?;
        let joined = place.answered;
        if place
            .found
            .as_ref()
            .is_some_and(|found| *found.value != *request.value)
        {
            let (key, revision) = (&place.key, place.revision);
            self.proclaim_value(key, revision, place.lease, &request.value)
                .await?;
        }
        let place = place.turn().await?;
        Ok(Response::new(pb::CampaignResponse {
            header: self.header(joined),
            leader: Some(pb::LeaderKey {
                name: request.name,
                key: place.key.clone(),
                rev: place.revision,
                lease: place.lease,
            }),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let request = request.into_inner();
        let leader = leader_of(request.leader)?;
        let revision = self
            .proclaim_value(&leader.key, leader.rev, leader.lease, &request.value)
            .await?;
        Ok(Response::new(pb::ProclaimResponse {
            header: self.header(revision),
        }))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        let (revision, first) = self.first_place(&request.into_inner().name).await?;
        let first = first.ok_or_else(|| Status::unknown("election: no leader"))?;
        Ok(Response::new(self.leads(revision, &first)))
    }

    type ObserveStream = Answers<pb::LeaderResponse>;

    async fn observe(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let (answers, mut queue) = mpsc::channel(OBSERVED_MAX);
        let (core, name) = (self.clone(), request.into_inner().name);
        env::spawn(async move {
            tokio::select! {
                () = answers.closed() => {}
                Err(error) = core.observe_name(&name, &answers) => {
                    let _gone = answers.send(Err(error)).await;
                }
                else => {}
            }
        });
        let queue = stream::poll_fn(move |context| queue.poll_recv(context));
        Ok(Response::new(Box::pin(queue)))
    }

    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        let leader = leader_of(request.into_inner().leader)?;
        let revision = self.give_up(&leader.key, leader.rev).await?;
        Ok(Response::new(pb::ResignResponse {
            header: self.header(revision),
        }))
    }
}

impl Core {
    async fn proclaim_value(
        &self,
        key: &[u8],
        made: Revision,
        lease: kv::LeaseId,
        value: &[u8],
    ) -> Result<Revision, Status> {
        let done = self
            .run(Txn {
                compares: vec![made_at(key, made)],
                ..single(Operation::Put {
                    key: key.to_vec(),
                    value: Arc::from(value),
                    lease,
                })
            })
            .await?;
        if done.succeeded {
            Ok(done.revision)
        } else {
            Err(not_leader())
        }
    }

    fn leads(&self, revision: Revision, entry: &kv::Entry) -> pb::LeaderResponse {
        pb::LeaderResponse {
            header: self.header(revision),
            kv: Some(key_value(entry)),
        }
    }

    /// Tells who leads and what it says, until the client is gone.
    async fn observe_name(
        &self,
        name: &[u8],
        answers: &mpsc::Sender<Result<pb::LeaderResponse, Status>>,
    ) -> Result<(), Status> {
        loop {
            let (revision, first) = self.first_place(name).await?;
            let leader = match first {
                Some(leader) => leader,
                None => self.first_put(name, revision + 1).await?,
            };
            let revision = revision.max(leader.mod_revision);
            if answers
                .send(Ok(self.leads(revision, &leader)))
                .await
                .is_err()
            {
                return Ok(());
            }
            let range = KeyRange::key(leader.key.to_vec());
            let mut events = self.events(range, leader.mod_revision + 1).await?;
            while let Event::Put { entry, .. } = events.next().await? {
                let answer = self.leads(entry.mod_revision, &entry);
                if answers.send(Ok(answer)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    async fn first_put(&self, name: &[u8], start: Revision) -> Result<Arc<kv::Entry>, Status> {
        let mut events = self.events(KeyRange::prefix(prefix(name)), start).await?;
        loop {
            if let Event::Put { entry, .. } = events.next().await? {
                return Ok(entry);
            }
        }
    }
}

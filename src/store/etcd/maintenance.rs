//! The service Maintenance.

use std::fs::File;
use std::io::Read;

use futures_util::stream;
use kv::Revision;
use ring::digest::{Context, SHA256};
use tonic::{Request, Response, Status, async_trait};

use crate::alarms;
use crate::core::{Core, RAFT_TERM, VERSION};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;
use crate::services::Answers;
use crate::status::{Refusal, status};

#[async_trait]
impl Maintenance for Core {
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let request = request.into_inner();
        let is_ours = [0, self.identity.member_id].contains(&request.member_id);
        let alarm = alarms::known(request.alarm);
        let said = match (request.action(), alarm) {
            (AlarmAction::Get, _) => alarms::asked(self.kv.alarms(), request.alarm),
            // Nobody but us can have alarms.
            (AlarmAction::Activate, _) if !is_ours => return Err(Refusal::MemberNotFound.into()),
            (AlarmAction::Activate, Some(alarm)) => {
                self.kv.raise_alarm(alarm).await.map_err(status)?;
                vec![alarm]
            }
            (AlarmAction::Deactivate, Some(alarm)) if is_ours => {
                let was_raised = self.kv.clear_alarm(alarm).await.map_err(status)?;
                Vec::from_iter(was_raised.then_some(alarm))
            }
            (AlarmAction::Activate | AlarmAction::Deactivate, _) => Vec::new(),
        };
        Ok(Response::new(pb::AlarmResponse {
            header: self.header_now(),
            alarms: said
                .into_iter()
                .map(|alarm| self.member_with(alarm))
                .collect(),
        }))
    }

    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let found = self.kv.status().await.map_err(status)?;
        let index = found.revision.unsigned_abs();
        Ok(Response::new(pb::StatusResponse {
            header: self.header(found.revision),
            version: VERSION.to_owned(),
            db_size: found.size_bytes.cast_signed(),
            leader: self.identity.member_id,
            // There is no log of commands; the revision is what grows with them.
            raft_index: index,
            raft_term: RAFT_TERM,
            raft_applied_index: index,
            errors: self.alarm_lines(),
            db_size_in_use: found.size_in_use_bytes.cast_signed(),
            is_learner: false,
            storage_version: VERSION.to_owned(),
            db_size_quota: self
                .kv
                .quota_bytes()
                .map_or(0, |quota| i64::try_from(quota).unwrap_or(i64::MAX)),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.kv.defragment().await.map_err(status)?;
        Ok(Response::new(pb::DefragmentResponse {
            // etcd gives no header here.
            header: None,
        }))
    }

    /// Over all that is in the store: the versions of its keys, its leases, and what was forgotten. As in etcd, it says something only when it is
    /// compared with that of the same store.
    async fn hash(
        &self,
        _request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let hash = self.kv.hash_kv(None).await.map_err(status)?;
        let mut leases = self.kv.leases().await.map_err(status)?;
        leases.sort_unstable();
        let mut all = Context::new(&SHA256);
        all.update(&hash.hash.to_be_bytes());
        all.update(&hash.compact_revision.to_be_bytes());
        for lease in leases {
            all.update(&lease.to_be_bytes());
        }
        let all = all.finish();
        let first = all.as_ref().first_chunk().expect("a digest has 32 bytes");
        Ok(Response::new(pb::HashResponse {
            header: self.header(hash.revision),
            hash: u32::from_be_bytes(*first),
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let revision =
            Some(request.into_inner().revision).filter(|revision: &Revision| *revision > 0);
        let hash = self.kv.hash_kv(revision).await.map_err(status)?;
        Ok(Response::new(pb::HashKvResponse {
            header: self.header(hash.revision),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        }))
    }

    type SnapshotStream = Answers<pb::SnapshotResponse>;

    async fn snapshot(
        &self,
        _request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let file = self.kv.snapshot().await.map_err(status)?;
        let left = file.metadata().map_err(unreadable)?.len();
        let begin = Copied {
            file,
            left,
            digest: Context::new(&SHA256),
        };
        Ok(Response::new(Box::pin(stream::try_unfold(
            Some(begin),
            |copied| async move {
                let Some(copied) = copied else {
                    return Ok(None);
                };
                let next = env::spawn_blocking(move || copied.next());
                next.await.map_err(unreadable)?.map(Some)
            },
        ))))
    }

    async fn move_leader(
        &self,
        _request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        Err(Refusal::BadLeaderTransferee.into())
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(match request.into_inner().action() {
            DowngradeAction::Cancel => Refusal::NoInflightDowngrade,
            DowngradeAction::Validate | DowngradeAction::Enable => Refusal::NotCapable,
        }
        .into())
    }
}

/// Bytes of a snapshot in one message.
const SNAPSHOT_PART_BYTES: usize = 32 << 10;

/// A copy of the store on its way to a client. Its checksum is the last part.
struct Copied {
    file: File,
    left: u64,
    digest: Context,
}

impl Copied {
    fn next(mut self) -> Result<(pb::SnapshotResponse, Option<Self>), Status> {
        if self.left == 0 {
            let checksum = self.digest.finish().as_ref().to_vec();
            return Ok((part(checksum, 0), None));
        }
        let size = usize::try_from(self.left).unwrap_or(usize::MAX);
        let mut bytes = vec![0; size.min(SNAPSHOT_PART_BYTES)];
        self.file.read_exact(&mut bytes).map_err(unreadable)?;
        self.left -= bytes.len() as u64;
        self.digest.update(&bytes);
        Ok((part(bytes, self.left), Some(self)))
    }
}

fn part(blob: Vec<u8>, remaining_bytes: u64) -> pb::SnapshotResponse {
    pb::SnapshotResponse {
        header: None,
        remaining_bytes,
        blob,
        version: VERSION.to_owned(),
    }
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::unknown(format!("the copy of the store cannot be read: {error}"))
}

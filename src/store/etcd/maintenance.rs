//! The service Maintenance.

use std::fs::File;
use std::io::Read;

use futures_util::stream;
use kv::Revision;
use ring::digest::{Context, SHA256};
use tonic::{Request, Response, Status, async_trait};

use crate::core::{Core, RAFT_TERM, VERSION};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;
use crate::services::Answers;
use crate::status::{Refusal, status};

#[async_trait]
impl Maintenance for Core {
    /// The store raises no alarms yet, so there is none to list or to clear.
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        match request.into_inner().action() {
            AlarmAction::Get | AlarmAction::Deactivate => Ok(Response::new(pb::AlarmResponse {
                header: self.header_now(),
                alarms: Vec::new(),
            })),
            AlarmAction::Activate => Err(Refusal::NotCapable.into()),
        }
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
            errors: Vec::new(),
            db_size_in_use: found.size_in_use_bytes.cast_signed(),
            is_learner: false,
            storage_version: VERSION.to_owned(),
            db_size_quota: 0,
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

    /// All that a store of ours holds under a hash is its keys.
    async fn hash(
        &self,
        _request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let hash = self.kv.hash_kv(None).await.map_err(status)?;
        Ok(Response::new(pb::HashResponse {
            header: self.header(hash.revision),
            hash: hash.hash,
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

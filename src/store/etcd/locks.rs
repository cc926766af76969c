//! The service Lock.

use kv::{KeyRange, Operation, RangeRequest};
use tonic::{Request, Response, Status, async_trait};

use crate::core::Core;
use crate::proto::v3lockpb::lock_server::Lock;
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use crate::status::status;

#[async_trait]
impl Lock for Core {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let request = request.into_inner();
        let place = self.take_place(&request.name, request.lease, b"").await?;
        let place = place.turn().await?;
        let look = RangeRequest::newest(KeyRange::key(place.key.clone()));
        let found = self.kv.range(look).await.map_err(status)?;
        if found.entries.is_empty() {
            return Err(Status::unknown("mutex: session is expired"));
        }
        Ok(Response::new(LockResponse {
            header: self.header(found.revision),
            key: place.key.clone(),
        }))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let key = request.into_inner().key;
        let delete = Operation::DeleteRange(KeyRange::key(key));
        let (revision, _) = self.operate(delete).await?;
        Ok(Response::new(UnlockResponse {
            header: self.header(revision),
        }))
    }
}

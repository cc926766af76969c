//! The service Lease.

use std::time::Duration;

use futures_util::stream;
use kv::Error;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::bodies::as_etcd;
use crate::core::Core;
use crate::metrics;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::services::Answers;
use crate::status::status;

#[async_trait]
impl Lease for Core {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let ttl = Duration::from_secs(u64::try_from(request.ttl).unwrap_or(0));
        let lease = self.kv.lease_grant(request.id, ttl).await.map_err(status)?;
        metrics::count(&self.metrics.granted_leases);
        Ok(Response::new(pb::LeaseGrantResponse {
            header: self.header_now(),
            id: lease.id,
            ttl: seconds(lease.granted_ttl),
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let id = request.into_inner().id;
        let revision = self.kv.lease_revoke(id).await.map_err(status)?;
        metrics::count(&self.metrics.revoked_leases);
        Ok(Response::new(pb::LeaseRevokeResponse {
            header: self.header(revision),
        }))
    }

    type LeaseKeepAliveStream = Answers<pb::LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let begin = (self.clone(), request.into_inner());
        let answers = stream::try_unfold(begin, |(core, mut requests)| async move {
            let request = requests.message().await;
            let request = request.map_err(|error| as_etcd(&error).unwrap_or(error))?;
            let Some(request) = request else {
                return Ok(None);
            };
            let answer = core.keep_alive(request.id).await?;
            Ok(Some((answer, (core, requests))))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let mut answer = pb::LeaseTimeToLiveResponse {
            header: self.header_now(),
            id: request.id,
            // As of a lease that is not there.
            ttl: -1,
            ..Default::default()
        };
        match self.kv.lease_status(request.id).await {
            Ok(lease) => {
                answer.ttl = seconds(lease.remaining);
                answer.granted_ttl = seconds(lease.granted_ttl);
                if request.keys {
                    answer.keys = lease.keys.iter().map(|key| key.to_vec()).collect();
                }
            }
            Err(Error::LeaseNotFound) => {}
            Err(error) => return Err(status(error)),
        }
        Ok(Response::new(answer))
    }

    async fn lease_leases(
        &self,
        _request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let leases = self.kv.leases().await.map_err(status)?;
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: self.header_now(),
            leases: leases
                .into_iter()
                .map(|id| pb::LeaseStatus { id })
                .collect(),
        }))
    }
}

impl Core {
    /// A lease that is gone has no time left.
    async fn keep_alive(&self, id: kv::LeaseId) -> Result<pb::LeaseKeepAliveResponse, Status> {
        // The revision from before: at none that a client hears of here was the lease gone already.
        let header = self.header_now();
        let ttl = match self.kv.lease_keep_alive(id).await {
            Ok(ttl) => {
                metrics::count(&self.metrics.renewed_leases);
                seconds(ttl)
            }
            Err(Error::LeaseNotFound) => 0,
            Err(error) => return Err(status(error)),
        };
        Ok(pb::LeaseKeepAliveResponse { header, id, ttl })
    }
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).expect("leases are shorter than the age of the universe")
}

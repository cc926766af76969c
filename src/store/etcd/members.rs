//! The services Cluster and Auth: there is one member, for ever, and who may connect is decided by certificates.

use tonic::{Request, Response, Status, async_trait};

use crate::core::Core;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::auth_server::Auth;
use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::status::Refusal;

impl Core {
    fn member(&self) -> pb::Member {
        pb::Member {
            id: self.identity.member_id,
            name: self.identity.name.clone(),
            // There is nobody to be a peer of; clients want to see an address all the same.
            peer_ur_ls: self.identity.client_urls.clone(),
            client_ur_ls: self.identity.client_urls.clone(),
            is_learner: false,
        }
    }
}

#[async_trait]
impl Cluster for Core {
    async fn member_add(
        &self,
        _request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(Refusal::NotCapable.into())
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(self.refuse_change(request.into_inner().id))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(self.refuse_change(request.into_inner().id))
    }

    async fn member_list(
        &self,
        _request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        Ok(Response::new(pb::MemberListResponse {
            // etcd gives no revision here.
            header: self.header(0),
            members: vec![self.member()],
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        if request.into_inner().id == self.identity.member_id {
            return Err(Refusal::NotLearner.into());
        }
        Err(Refusal::MemberNotFound.into())
    }
}

impl Core {
    fn refuse_change(&self, id: u64) -> Status {
        if id == self.identity.member_id {
            Refusal::NotCapable.into()
        } else {
            Refusal::MemberNotFound.into()
        }
    }
}

#[async_trait]
impl Auth for Core {
    async fn auth_status(
        &self,
        _request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        Ok(Response::new(pb::AuthStatusResponse {
            header: self.header_now(),
            enabled: false,
            auth_revision: 1,
        }))
    }
}

//! Calls to an etcd cluster: a limit of time for each, and another member when one does not answer.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Request, Response, Status};

use crate::channel::{Channel, NotSent};
use crate::endpoints::Endpoints;
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::lease_client::LeaseClient;
use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::proto::etcdserverpb::watch_client::WatchClient;
use crate::tls::Security;

/// A member has this long to answer; etcd itself gives up after 7 s without a leader.
pub(crate) const CALL_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two tries while the cluster has no leader.
const PAUSE: Duration = Duration::from_millis(200);
/// The times that every member is tried.
const ROUNDS_MAX: usize = 2;

/// Whether a call may reach etcd twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It reads, or does the same the second time.
    Allowed,
    /// It is only sent again if no member has seen it.
    Unseen,
}

/// An etcd cluster as clients see it; a clone shares the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Dials nobody yet: the first call does.
    pub fn new(endpoints: Endpoints, security: Security) -> Self {
        Self {
            channel: Channel::new(endpoints, security),
        }
    }

    pub fn endpoints(&self) -> &Endpoints {
        self.channel.endpoints()
    }

    /// Messages of any size: what etcd stores, it can also send.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Makes a call with a request, at another member if one does not answer it.
    pub async fn call<R, T, F>(
        &self,
        repeat: Repeat,
        request: R,
        call: impl Fn(Self, R) -> F + Send,
    ) -> Result<T, Status>
    where
        R: Clone + Send,
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let tries = ROUNDS_MAX * self.endpoints().members().len();
        let mut tried = 1;
        loop {
            let connections = self.channel.count().await;
            let status =
                match env::timeout(CALL_TIME_MAX, call(self.clone(), request.clone())).await {
                    Ok(Ok(answer)) => return Ok(answer.into_inner()),
                    Ok(Err(status)) => status,
                    Err(_timed_out) => Status::deadline_exceeded(format!(
                        "etcd did not answer within {} s",
                        CALL_TIME_MAX.as_secs()
                    )),
                };
            if !is_of_the_member(&status) {
                return Err(status);
            }
            self.channel.leave(connections).await;
            let may_repeat = repeat == Repeat::Allowed || was_not_seen(&status);
            if tried == tries || !may_repeat {
                return Err(status);
            }
            tried += 1;
            if tried > self.endpoints().members().len() {
                env::sleep(PAUSE).await;
            }
        }
    }

    /// Turns away from a member that does not serve a stream; `connections` is [`Self::connections`] from before the stream began.
    pub async fn leave(&self, connections: u64) {
        self.channel.leave(connections).await;
    }

    pub async fn connections(&self) -> u64 {
        self.channel.count().await
    }
}

/// A request whose stream ends when its member loses the leader, instead of being silent.
pub fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(
        "hasleader",
        tonic::metadata::MetadataValue::from_static("true"),
    );
    request
}

/// Whether another member may do better.
fn is_of_the_member(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => true,
        // What hyper says of a connection that broke in the middle of an answer.
        Code::Unknown | Code::Internal => !status.message().starts_with("etcdserver: "),
        _ => false,
    }
}

fn was_not_seen(status: &Status) -> bool {
    status
        .source()
        .is_some_and(<dyn std::error::Error + 'static>::is::<NotSent>)
}

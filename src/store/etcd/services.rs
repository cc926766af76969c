//! The services by path, each with its limits.

use std::pin::Pin;

use futures_util::Stream;
use http::{Request, Response};
use hyper::body::Incoming;
use kv::REQUEST_BYTES_MAX;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use crate::bodies;
use crate::core::Core;
use crate::proto::etcdserverpb::auth_server::AuthServer;
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::etcdserverpb::watch_server::WatchServer;
use crate::proto::health::health_server::HealthServer;
use crate::proto::reflection::server_reflection_server::ServerReflectionServer;
use crate::proto::v3electionpb::election_server::ElectionServer;
use crate::proto::v3lockpb::lock_server::LockServer;
use crate::status::Refusal;

/// The answers of a call that has several.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A message may be this large, as in etcd: the largest request, and half a MiB for what is around it.
pub(crate) const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + (512 << 10);

/// Calls the service that a path names, and counts what passes.
pub(crate) async fn call(core: &Core, request: Request<Incoming>) -> Response<Body> {
    let path = core.metrics.started(request.uri().path());
    let request = request.map(|body| bodies::received(body, &core.metrics));
    bodies::sent(answer(core, request).await, path, &core.metrics)
}

async fn answer(core: &Core, mut request: Request<Body>) -> Response<Body> {
    // Both versions of reflection have the same messages.
    let path = request.uri().path().replacen(".v1alpha.", ".v1.", 1);
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    macro_rules! served {
        ($server:ident) => {{
            let service = $server::new(core.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(usize::MAX);
            { service }.call(request).await
        }};
    }
    let service = path.split('/').nth(1).unwrap_or_default();
    let answer = match service {
        "etcdserverpb.KV" => served!(KvServer),
        "etcdserverpb.Watch" => served!(WatchServer),
        "etcdserverpb.Lease" => served!(LeaseServer),
        "etcdserverpb.Maintenance" => served!(MaintenanceServer),
        "etcdserverpb.Cluster" => served!(ClusterServer),
        "v3lockpb.Lock" => served!(LockServer),
        "v3electionpb.Election" => served!(ElectionServer),
        "grpc.health.v1.Health" => served!(HealthServer),
        "grpc.reflection.v1.ServerReflection" => served!(ServerReflectionServer),
        "etcdserverpb.Auth" if path.ends_with("/AuthStatus") => served!(AuthServer),
        // Who may connect is decided by certificates.
        "etcdserverpb.Auth" => return Status::from(Refusal::NotCapable).into_http(),
        unknown => {
            let text = format!("unknown service {unknown}");
            return Status::unimplemented(text).into_http();
        }
    };
    answer.unwrap_or_else(|never| match never {})
}

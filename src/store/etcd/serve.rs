//! Connections: gRPC over HTTP/2, and the few plain pages that etcd has beside it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use env::Shutdown;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kv::Kv;
use serving::{BodyError, Http, Http2, Limits};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;

use crate::core::{Core, Identity};
use crate::{pages, services};

/// Running calls may finish within this time when the server is asked to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);
const LIMITS: Limits = Limits {
    connections_max: 4096,
    drain_time_max: DRAIN_TIME_MAX,
};
const HTTP: Http = Http {
    header_time_max: Duration::from_mins(1),
    http1_buffer_bytes_max: 64 << 10,
    http2: Some(Http2 {
        // Every watch of a client may be a call of its own.
        streams_max: 16_384,
        stream_window_bytes: 1 << 20,
        connection_window_bytes: Some(4 << 20),
        send_buffer_bytes_max: 1 << 20,
        header_bytes_max: 64 << 10,
        // As in etcd.
        ping_every: Duration::from_hours(2),
        ping_time_max: Duration::from_secs(20),
    }),
    drain_time_max: DRAIN_TIME_MAX,
};

/// Who may connect.
#[derive(Clone)]
pub enum Door {
    /// Whoever reaches the address.
    Open,
    /// Whose certificate the configuration verifies and `admits` knows; the configuration demands one.
    Tls {
        config: Arc<rustls::ServerConfig>,
        /// Decides by the client's own certificate, in DER.
        admits: Arc<dyn Fn(&[u8]) -> bool + Send + Sync>,
    },
}

impl fmt::Debug for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Open => "Open",
            Self::Tls { .. } => "Tls",
        })
    }
}

/// The protocols that a TLS configuration has to offer.
pub const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Serves etcd's API from a store until the end is asked for.
pub async fn serve(
    kv: Arc<dyn Kv>,
    identity: Identity,
    listener: TcpListener,
    door: Door,
    shutdown: Shutdown,
) {
    let core = Core::new(kv, identity);
    let one = |stream| {
        let (core, door, shutdown) = (core.clone(), door.clone(), shutdown.clone());
        async move {
            if let Err(error) = connection(core, stream, door, &shutdown).await {
                tracing::debug!(error, "a connection to etcd's API ended");
            }
        }
    };
    serving::accept_each(listener, "etcd's API", LIMITS, &shutdown, one).await;
}

async fn connection(
    core: Core,
    stream: TcpStream,
    door: Door,
    shutdown: &Shutdown,
) -> Result<(), String> {
    let service = serving::service(move |request| {
        let core = core.clone();
        async move {
            let answer = respond(&core, request).await;
            answer.map(|body| body.map_err(BodyError::new).boxed_unsync())
        }
    });
    match door {
        Door::Open => serving::serve_http(stream, &HTTP, service, shutdown).await,
        Door::Tls { config, admits } => {
            let stream = serving::handshake(config, stream).await?;
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            if !certificates.first().is_some_and(|own| admits(own)) {
                return Err("the client's certificate is none that may read the store".to_owned());
            }
            serving::serve_http(stream, &HTTP, service, shutdown).await
        }
    }
}

async fn respond(core: &Core, request: Request<Incoming>) -> Response<Body> {
    let is_grpc = request
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        services::call(core, request).await
    } else {
        pages::respond(core, &request).await
    }
}

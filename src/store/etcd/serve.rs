//! Connections: gRPC over HTTP/2, and the few plain pages that etcd has beside it.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use env::Shutdown;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kv::Kv;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::body::Body;

use crate::core::{Core, Identity};
use crate::{pages, services};

/// Connections open at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// A client has this long to finish its TLS handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// A client has this long to send the headers of a request of HTTP/1.1.
const HEADER_TIME_MAX: Duration = Duration::from_mins(1);
/// Calls at once on one connection. Every watch of a client may be a call of its own.
const STREAMS_MAX: u32 = 16_384;
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const SEND_BUFFER_BYTES_MAX: usize = 1 << 20;
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// How often a connection is asked for a sign of life, and how long it may take, as in etcd.
const PING_EVERY: Duration = Duration::from_hours(2);
const PING_TIME_MAX: Duration = Duration::from_secs(20);
/// Running calls may finish within this time when the server is asked to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);
/// After an error of `accept` (no file descriptors left, usually) others get this long to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    let core = Core {
        kv,
        identity: Arc::new(identity),
    };
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            biased;
            () = shutdown.requested() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection to etcd's API could be accepted");
                env::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (core, door, shutdown) = (core.clone(), door.clone(), shutdown.clone());
        env::spawn(async move {
            if let Err(error) = connection(core, stream, door, shutdown).await {
                tracing::debug!(%address, error, "a connection to etcd's API ended");
            }
            drop(slot);
        });
    }
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _drained = env::timeout(DRAIN_TIME_MAX, slots.acquire_many(all)).await;
}

async fn connection(
    core: Core,
    stream: TcpStream,
    door: Door,
    shutdown: Shutdown,
) -> Result<(), String> {
    let _best_effort = stream.set_nodelay(true);
    let (config, admits) = match door {
        Door::Open => return talk(core, Either::Left(stream), shutdown).await,
        Door::Tls { config, admits } => (config, admits),
    };
    let accept = TlsAcceptor::from(config).accept(stream);
    let stream = env::timeout(HANDSHAKE_TIME_MAX, accept)
        .await
        .map_err(|elapsed| elapsed.to_string())?
        .map_err(|error| error.to_string())?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    if !certificates.first().is_some_and(|own| admits(own)) {
        return Err("the client's certificate is none that may read the store".to_owned());
    }
    talk(core, Either::Right(stream), shutdown).await
}

/// One type for both doors, so that the code for HTTP is in the binary once.
type Connection = Either<TcpStream, TlsStream<TcpStream>>;

async fn talk(core: Core, stream: Connection, shutdown: Shutdown) -> Result<(), String> {
    let service = hyper::service::service_fn(move |request| {
        let core = core.clone();
        async move { Ok::<_, Infallible>(respond(&core, request).await) }
    });
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
        () = shutdown.requested() => connection.as_mut().graceful_shutdown(),
    }
    env::timeout(DRAIN_TIME_MAX, connection)
        .await
        .map_err(|elapsed| elapsed.to_string())?
        .map_err(|error| error.to_string())
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

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIME_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX);
    builder
}

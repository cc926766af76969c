//! Connections: TLS, HTTP/1.1 and HTTP/2, and limits that keep idle or broken clients from hurting others.

use std::sync::Arc;
use std::time::Duration;

use env::Shutdown;
use hyper::body::Incoming as NetworkBody;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::body::RequestBody;
use crate::filters::{self, Caller, Incoming, Response};
use crate::request_info::RequestInfo;
use crate::side_paths;
use crate::state::State;

/// Connections open at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 8192;
/// A client has this long to finish its TLS handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// A client has this long to send the headers of a request, and an idle HTTP/1.1 connection lasts as long.
const HEADER_TIME_MAX: Duration = Duration::from_mins(2);
/// HTTP/2 connections are asked for a sign of life this often while something runs on them.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIME_MAX: Duration = Duration::from_secs(15);
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 250;
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
const HEADER_BYTES_MAX: u32 = 64 * 1024;
const HTTP1_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Running requests may finish within this time when the server is asked to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// After an error of `accept` (no file descriptors left, usually) others get this long to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until the end is asked for.
pub(crate) async fn serve(
    state: Arc<State>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: Shutdown,
) {
    let acceptor = TlsAcceptor::from(tls);
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
                tracing::warn!(%error, "no connection could be accepted");
                env::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (state, acceptor, shutdown) = (state.clone(), acceptor.clone(), shutdown.clone());
        env::spawn(async move {
            if let Err(error) = connection(state, stream, acceptor, shutdown).await {
                tracing::debug!(%address, error, "connection ended");
            }
            drop(slot);
        });
    }
    // All slots are free when all connections are closed.
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _drained = env::timeout(DRAIN_TIME_MAX, slots.acquire_many(all.saturating_sub(1))).await;
}

async fn connection(
    state: Arc<State>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    shutdown: Shutdown,
) -> Result<(), String> {
    let _best_effort = stream.set_nodelay(true);
    let peer = stream.peer_addr().map_err(|error| error.to_string())?;
    let handshake = env::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await;
    let stream = handshake
        .map_err(|elapsed| elapsed.to_string())?
        .map_err(|error| error.to_string())?;
    let certificates: Vec<Vec<u8>> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.as_ref().to_vec())
        .collect();
    let certificates: Arc<[Vec<u8>]> = certificates.into();
    let service = hyper::service::service_fn(move |request| {
        let (state, certificates) = (state.clone(), certificates.clone());
        async move {
            let answer = match side_paths::respond(&state, request, peer, &certificates).await {
                Ok(answer) => answer,
                Err(request) => handle(state, request, certificates).await,
            };
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
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

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HTTP1_BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIME_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX);
    builder
}

async fn handle(
    state: Arc<State>,
    mut request: http::Request<NetworkBody>,
    peer_certificates: Arc<[Vec<u8>]>,
) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let info = RequestInfo::parse(&head.method, path);
    let mut extensions = head.extensions;
    extensions.insert(upgrade);
    let incoming = Incoming {
        info,
        raw_query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        extensions,
        body: RequestBody::Network(body),
        warnings: crate::answer::Warnings::default(),
    };
    filters::respond_to(&state, incoming, Caller::Connection { peer_certificates }).await
}

//! Connections: TLS, HTTP/1.1 and HTTP/2, and limits that keep idle or broken clients from hurting others.

use std::sync::Arc;
use std::time::Duration;

use env::Shutdown;
use http_body_util::BodyExt as _;
use hyper::body::Incoming as NetworkBody;
use serving::{Http, Http2, Limits};
use tokio::net::{TcpListener, TcpStream};

use crate::body::RequestBody;
use crate::filters::{self, Caller, Incoming, Response};
use crate::request_info::RequestInfo;
use crate::side_paths;
use crate::state::State;

/// Running requests may finish within this time when the server is asked to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
const LIMITS: Limits = Limits {
    connections_max: 8192,
    drain_time_max: DRAIN_TIME_MAX,
};
const HTTP: Http = Http {
    header_time_max: Duration::from_mins(2),
    http1_buffer_bytes_max: 64 * 1024,
    http2: Some(Http2 {
        streams_max: 250,
        stream_window_bytes: 64 * 1024,
        connection_window_bytes: None,
        send_buffer_bytes_max: 64 * 1024,
        header_bytes_max: 64 * 1024,
        ping_every: Duration::from_secs(30),
        ping_time_max: Duration::from_secs(15),
    }),
    drain_time_max: DRAIN_TIME_MAX,
};

/// Serves connections until the end is asked for.
pub(crate) async fn serve(
    state: Arc<State>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: Shutdown,
) {
    let one = |stream| {
        let (state, tls, shutdown) = (state.clone(), tls.clone(), shutdown.clone());
        async move {
            if let Err(error) = connection(state, stream, tls, &shutdown).await {
                tracing::debug!(error, "a connection to the API ended");
            }
        }
    };
    serving::accept_each(listener, "the API", LIMITS, &shutdown, one).await;
}

async fn connection(
    state: Arc<State>,
    stream: TcpStream,
    tls: Arc<rustls::ServerConfig>,
    shutdown: &Shutdown,
) -> Result<(), String> {
    let peer = stream.peer_addr().map_err(|error| error.to_string())?;
    let stream = serving::handshake(tls, stream).await?;
    let certificates: Vec<Vec<u8>> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.as_ref().to_vec())
        .collect();
    let certificates: Arc<[Vec<u8>]> = certificates.into();
    let service = serving::service(move |request| {
        let (state, certificates) = (state.clone(), certificates.clone());
        async move {
            let answer = match side_paths::respond(&state, request, peer, &certificates).await {
                Ok(answer) => answer,
                Err(request) => handle(state, request, certificates).await,
            };
            answer.map(|body| body.map_err(|never| match never {}).boxed_unsync())
        }
    });
    let served = serving::serve_http(stream, &HTTP, service, shutdown).await;
    served.map_err(|error| format!("{peer}: {error}"))
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

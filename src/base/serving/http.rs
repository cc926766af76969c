//! HTTP over one connection.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::Shutdown;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use streams::Transport;

use crate::transport::AnyTransport;

/// Why a body broke off.
#[derive(Debug)]
pub struct BodyError(Box<dyn Error + Send + Sync>);

impl BodyError {
    pub fn new(why: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(why))
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

pub type Body = UnsyncBoxBody<Bytes, BodyError>;
pub type Answer = Response<Body>;

type Answering = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

/// What answers the requests of connections.
#[derive(Clone)]
pub struct Service(Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>);

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Service")
    }
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        (self.0)(request)
    }
}

/// A service that is a function.
pub fn service<F>(answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Service
where
    F: Future<Output = Answer> + Send + 'static,
{
    Service(Arc::new(move |request| {
        let answering = answer(request);
        Box::pin(async move { Ok(answering.await) })
    }))
}

/// The rules of a server's connections.
#[derive(Clone, Copy, Debug)]
pub struct Http {
    /// A client has this long to send the headers of a request of HTTP/1.1, and an idle connection of it lasts as long.
    pub header_time_max: Duration,
    pub http1_buffer_bytes_max: usize,
    /// `None`: only HTTP/1.1, as upgraded connections need.
    pub http2: Option<Http2>,
    /// Requests under way may finish within this time when the end is asked for.
    pub drain_time_max: Duration,
}

/// The rules for connections of HTTP/2.
#[derive(Clone, Copy, Debug)]
pub struct Http2 {
    /// Requests at once on one connection.
    pub streams_max: u32,
    pub stream_window_bytes: u32,
    /// `None`: as the protocol has it.
    pub connection_window_bytes: Option<u32>,
    pub send_buffer_bytes_max: usize,
    pub header_bytes_max: u32,
    /// How often a connection is asked for a sign of life, and how long that may take.
    pub ping_every: Duration,
    pub ping_time_max: Duration,
}

/// Answers the requests of one connection until it ends or the end is asked for.
pub async fn serve_http(
    stream: impl Transport,
    http: &Http,
    service: Service,
    shutdown: &Shutdown,
) -> Result<(), String> {
    let stream = AnyTransport::new(stream);
    serve(stream, http, service, shutdown).await
}

async fn serve(
    stream: AnyTransport,
    http: &Http,
    service: Service,
    shutdown: &Shutdown,
) -> Result<(), String> {
    let builder = builder(http);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
        () = shutdown.requested() => connection.as_mut().graceful_shutdown(),
    }
    env::timeout(http.drain_time_max, connection)
        .await
        .map_err(|elapsed| elapsed.to_string())?
        .map_err(|error| error.to_string())
}

fn builder(http: &Http) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(http.header_time_max)
        .max_buf_size(http.http1_buffer_bytes_max);
    let Some(http2) = http.http2 else {
        return builder.http1_only();
    };
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(http2.ping_every)
        .keep_alive_timeout(http2.ping_time_max)
        .max_concurrent_streams(http2.streams_max)
        .initial_stream_window_size(http2.stream_window_bytes)
        .initial_connection_window_size(http2.connection_window_bytes)
        .max_header_list_size(http2.header_bytes_max)
        .max_send_buf_size(http2.send_buffer_bytes_max);
    builder
}

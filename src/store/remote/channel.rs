//! One connection to one member, and another one to the next member when it fails. Whoever calls waits for the same dial.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use crate::endpoints::{Endpoint, Endpoints};
use crate::tls::Security;

/// A member has this long to accept a connection, with its TLS and HTTP/2.
const DIAL_TIME_MAX: Duration = Duration::from_secs(3);
/// How often a connection with running calls is asked for a sign of life, and how long it may take: etcd allows no more than one in 5 s.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_TIME_MAX: Duration = Duration::from_secs(10);
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// The member that answers now; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Channel(Arc<Shared>);

struct Shared {
    endpoints: Endpoints,
    security: Security,
    state: Mutex<State>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.endpoints)
    }
}

struct State {
    connection: Option<Connection>,
    /// The member that is dialled first.
    next: usize,
    /// Connections so far.
    count: u64,
}

#[derive(Clone)]
struct Connection {
    sender: SendRequest<Body>,
    scheme: Scheme,
    authority: Authority,
    number: u64,
}

/// The source of a [`Status`] of a call that no member has seen.
#[derive(Debug, thiserror::Error)]
#[error("the call was not sent")]
pub(crate) struct NotSent;

impl Channel {
    /// Dials nobody yet.
    pub fn new(endpoints: Endpoints, security: Security) -> Self {
        Self(Arc::new(Shared {
            endpoints,
            security,
            state: Mutex::new(State {
                connection: None,
                next: 0,
                count: 0,
            }),
        }))
    }

    pub fn endpoints(&self) -> &Endpoints {
        &self.0.endpoints
    }

    /// Connections made so far: who saw a call fail tells [`Self::leave`] what this was before the call.
    pub(crate) async fn count(&self) -> u64 {
        self.0.state.lock().await.count
    }

    /// Turns to the next member, unless this happened since there were `count` connections.
    pub(crate) async fn leave(&self, count: u64) {
        let mut state = self.0.state.lock().await;
        if state.count <= count && state.connection.take().is_some() {
            state.next += 1;
        }
    }
}

impl Shared {
    async fn connection(&self) -> Result<Connection, Status> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            if !connection.sender.is_closed() {
                return Ok(connection.clone());
            }
            state.connection = None;
            state.next += 1;
        }
        let members = self.endpoints.members();
        let mut failures = Vec::new();
        for _ in members {
            let member = &members[state.next % members.len()];
            match self.dial(member, state.count + 1).await {
                Ok(connection) => {
                    state.count += 1;
                    state.connection = Some(connection.clone());
                    tracing::debug!(%member, "connected to etcd");
                    return Ok(connection);
                }
                Err(why) => failures.push(format!("{member}: {why}")),
            }
            state.next += 1;
        }
        Err(not_sent(format!(
            "no etcd member can be reached ({})",
            failures.join("; ")
        )))
    }

    async fn dial(&self, member: &Endpoint, number: u64) -> Result<Connection, String> {
        let sender = env::timeout(DIAL_TIME_MAX, self.handshake(member))
            .await
            .map_err(|_timed_out| format!("no answer within {} s", DIAL_TIME_MAX.as_secs()))??;
        let authority = member.to_string();
        Ok(Connection {
            sender,
            scheme: self.endpoints.scheme().parse().expect("http or https"),
            authority: authority
                .parse()
                .map_err(|_error| format!("{authority} is no host and port"))?,
            number,
        })
    }

    async fn handshake(&self, member: &Endpoint) -> Result<SendRequest<Body>, String> {
        let stream = self.open(member).await?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIME_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        env::spawn(async move {
            // Every call of the connection learns its end by itself.
            let _ended = connection.await;
        });
        Ok(sender)
    }

    async fn open(&self, member: &Endpoint) -> Result<Stream, String> {
        let stream = TcpStream::connect((member.host.as_str(), member.port))
            .await
            .map_err(|error| error.to_string())?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let Security::Tls(config) = &self.security else {
            return Ok(Either::Left(stream));
        };
        let name = ServerName::try_from(member.host.clone()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::clone(config))
            .connect(name, stream)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Either::Right(stream))
    }

    async fn call(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Status> {
        let mut connection = self.connection().await?;
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::builder()
            .scheme(connection.scheme)
            .authority(connection.authority)
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
            .build()
            .map_err(|error| Status::internal(error.to_string()))?;
        if let Err(error) = connection.sender.ready().await {
            return Err(not_sent(format!("the connection to etcd ended: {error}")));
        }
        let number = connection.number;
        let answer = connection.sender.try_send_request(request).await;
        answer.map_err(|mut failure| {
            let was_sent = failure.take_message().is_none();
            let why = format!("connection {number} to etcd failed: {}", failure.error());
            if was_sent {
                Status::unavailable(why)
            } else {
                not_sent(why)
            }
        })
    }
}

fn not_sent(why: String) -> Status {
    let mut status = Status::unavailable(why);
    status.set_source(Arc::new(NotSent));
    status
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.call(request).await })
    }
}

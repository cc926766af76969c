//! A transport over HTTP to a server elsewhere: pooled connections, HTTP/2 where the server speaks it, TLS with one pinned set of roots.

mod anybody;
mod authorities;
mod connector;
mod decode;
mod tls;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::ApiError;
use async_trait::async_trait;
use bytes::Bytes;
use env::Clock;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::client::failure;
use crate::path::{collection_path, with_query};
use crate::{
    ClientError, Dialer, ListRequest, Method, ObjectList, Request, Response, Transport, WatchEvent,
    WatchRequest, WatchStream,
};
pub use anybody::Anybody;
pub use authorities::Authorities;
use connector::Connector;
pub use tls::{ClientCertificate, ClockTime};

/// A larger answer is refused; a page of a list stays far below.
const ANSWER_BYTES_MAX: usize = 128 << 20;
/// Objects in one page of a list.
const LIST_PAGE_OBJECTS: &str = "500";
/// A call that is not answered in this time failed, with an unknown outcome.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Events read ahead of a slow consumer of a watch.
const WATCH_EVENTS_AHEAD: usize = 64;
/// A connection with open streams that answers no ping for twice this long is given up.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const IDLE_CONNECTION_KEPT: Duration = Duration::from_secs(90);
/// Plain objects where they exist, else whatever there is.
const ANY_FORM: &str = "application/json, */*";

/// A connection that was switched to another protocol.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;
/// The body of an answer, as it comes.
pub type BodyStream = Incoming;

/// Who the caller is.
#[derive(Clone, Debug)]
pub enum Credentials {
    Anonymous,
    Certificate(Arc<ClientCertificate>),
    BearerToken(String),
    /// A whole `Authorization` header.
    Header(String),
}

/// Whom a caller believes to be the server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Whose certificate one of these signed, in PEM. Nothing else is trusted.
    Authorities(Vec<u8>),
    /// Whose certificate one of these signed, as they are when a connection begins.
    Current(Arc<Authorities>),
    /// Whoever answers: for a first contact, whose answer is checked in another way. Nothing secret may be sent.
    Anybody,
}

/// Opens the connections of a transport.
#[async_trait]
pub trait Route: Send + Sync + fmt::Debug {
    /// A connection to the server called `host`, or to another that stands in for it.
    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream>;
}

#[async_trait]
impl Route for Dialer {
    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        self.dial(host, port).await
    }
}

#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `https://host:port`, or `http://…` for a local proxy.
    pub server: String,
    pub trust: Trust,
    /// The name in the server's certificate, if it is not the host of `server`.
    pub server_name: Option<String>,
    pub credentials: Credentials,
    pub user_agent: String,
    pub route: Arc<dyn Route>,
    /// By which certificates begin and end.
    pub clock: Arc<dyn Clock>,
}

#[derive(Clone, Debug)]
pub struct HttpTransport {
    base: String,
    headers: HeaderMap,
    pool: Arc<Mutex<Pool>>,
    /// What the pool's connections were opened with.
    certificate: Option<Arc<ClientCertificate>>,
    connector: Connector,
    answer_limit: Duration,
}

type PooledClient = hyper_util::client::legacy::Client<Connector, Full<Bytes>>;

/// Connections that were opened with one generation of the client's certificate.
#[derive(Debug)]
struct Pool {
    client: PooledClient,
    generation: u64,
}

impl Pool {
    fn new(connector: Connector, generation: u64) -> Self {
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION_KEPT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_INTERVAL)
            .build(connector);
        Self { client, generation }
    }
}

impl HttpTransport {
    /// Asks whoever listens at a socket on this machine, which the system's rights keep.
    pub fn at_socket(path: &Path, user_agent: &str) -> Result<Self, ClientError> {
        let connector = Connector::Socket(path.into());
        Ok(Self {
            base: "http://node".to_owned(),
            headers: naming(user_agent)?,
            pool: Arc::new(Mutex::new(Pool::new(connector.clone(), 0))),
            certificate: None,
            connector,
            answer_limit: ANSWER_LIMIT,
        })
    }

    /// Connects on the first call, not here. An error means that the configuration cannot be used.
    pub fn new(config: &HttpConfig) -> Result<Self, ClientError> {
        let mut headers = naming(&config.user_agent)?;
        let authorization = match &config.credentials {
            Credentials::Anonymous | Credentials::Certificate(_) => None,
            Credentials::BearerToken(token) => Some(format!("Bearer {token}")),
            Credentials::Header(value) => Some(value.clone()),
        };
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_str(&authorization).map_err(unusable)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let connector = Connector::new(config)?;
        let certificate = match &config.credentials {
            Credentials::Certificate(certificate) => Some(Arc::clone(certificate)),
            Credentials::Anonymous | Credentials::BearerToken(_) | Credentials::Header(_) => None,
        };
        let generation = certificate.as_ref().map_or(0, |one| one.generation());
        let pool = Pool::new(connector.clone(), generation);
        let base = config.server.trim_end_matches('/').to_owned();
        Ok(Self {
            base,
            headers,
            pool: Arc::new(Mutex::new(pool)),
            certificate,
            connector,
            answer_limit: ANSWER_LIMIT,
        })
    }

    /// The same with another limit for an answer, or none. What streams, such as a watch or a log, must have begun by then.
    #[must_use]
    pub fn with_answer_limit(self, limit: Option<Duration>) -> Self {
        Self {
            answer_limit: limit.unwrap_or(Duration::MAX),
            ..self
        }
    }

    /// The answer's code and its body as it comes, for logs and other long reads.
    pub async fn open(&self, request: Request) -> Result<(u16, BodyStream), ClientError> {
        let answer = self.start(request, ANY_FORM).await?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }

    /// The body of an answer as it comes, in one of the forms of `accept`; an answer that is a failure is the error.
    pub async fn open_accepting(
        &self,
        request: Request,
        accept: &'static str,
    ) -> Result<BodyStream, ClientError> {
        let answer = self.start(request, accept).await?;
        let code = answer.status().as_u16();
        if code >= 400 {
            return Err(failure(code, &collect(answer.into_body()).await?).into());
        }
        Ok(answer.into_body())
    }

    /// Asks to switch protocols on a connection of its own. On anything but 101 the server's failure is the error.
    ///
    /// `headers` name the protocol: `Upgrade`, `Connection`, and what the protocol needs.
    pub async fn connect(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<(HeaderMap, Upgraded), ClientError> {
        let uri = self.uri(path)?;
        let stream = self
            .connector
            .connect_http1(&uri)
            .await
            .map_err(unreachable)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(stream)
                .await
                .map_err(unreachable)?;
        env::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an upgraded connection ended");
            }
        });
        let mut request = http::Request::builder()
            .method(method_name(method))
            .uri(uri.path_and_query().map_or("/", |path| path.as_str()));
        if let Some(authority) = uri.authority() {
            request = request.header(header::HOST, authority.as_str());
        }
        let mut request = request.body(Full::new(Bytes::new())).map_err(unusable)?;
        request.headers_mut().extend(self.headers.clone());
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(unusable)?;
            request
                .headers_mut()
                .append(name, HeaderValue::from_str(value).map_err(unusable)?);
        }
        let answer = sender.send_request(request).await.map_err(unreachable)?;
        if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            let code = answer.status().as_u16();
            let body = collect(answer.into_body()).await?;
            return Err(failure(code, &body).into());
        }
        let headers = answer.headers().clone();
        let upgraded = hyper::upgrade::on(answer).await.map_err(unreachable)?;
        Ok((headers, TokioIo::new(upgraded)))
    }

    fn uri(&self, path: &str) -> Result<Uri, ClientError> {
        format!("{}{path}", self.base).parse().map_err(unusable)
    }

    /// A client whose connections show the certificate as it is now. What streams over the ones before goes on; a server refuses what
    /// begins on a connection whose certificate has ended.
    fn client(&self) -> PooledClient {
        let mut pool = self.pool.lock();
        let certificate = self.certificate.as_ref();
        let generation = certificate.map_or(pool.generation, |one| one.generation());
        if pool.generation != generation {
            *pool = Pool::new(self.connector.clone(), generation);
        }
        pool.client.clone()
    }

    async fn start(
        &self,
        request: Request,
        accept: &'static str,
    ) -> Result<http::Response<Incoming>, ClientError> {
        let mut builder = http::Request::builder()
            .method(method_name(request.method))
            .uri(self.uri(&request.path)?);
        if !request.content_type.is_empty() {
            builder = builder.header(header::CONTENT_TYPE, request.content_type);
        }
        builder = builder.header(header::ACCEPT, accept);
        let mut outgoing = builder.body(Full::new(request.body)).map_err(unusable)?;
        outgoing.headers_mut().extend(self.headers.clone());
        env::timeout(self.answer_limit, self.client().request(outgoing))
            .await
            .map_err(unreachable)?
            .map_err(unreachable)
    }

    async fn get_page(&self, path: String) -> Result<Bytes, ClientError> {
        let request = Request {
            method: Method::Get,
            path,
            content_type: "",
            body: Bytes::new(),
        };
        let answer = self.call(request).await?;
        if answer.code < 400 {
            Ok(answer.body)
        } else {
            Err(failure(answer.code, &answer.body).into())
        }
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn call(&self, request: Request) -> Result<Response, ClientError> {
        self.call_accepting(request, ANY_FORM).await
    }

    async fn call_accepting(
        &self,
        request: Request,
        accept: &'static str,
    ) -> Result<Response, ClientError> {
        let exchange = async {
            let answer = self.start(request, accept).await?;
            let code = answer.status().as_u16();
            let warnings = warnings(answer.headers());
            let body = collect(answer.into_body()).await?;
            Ok(Response {
                code,
                body,
                warnings,
            })
        };
        env::timeout(self.answer_limit, exchange)
            .await
            .map_err(unreachable)?
    }

    async fn list(&self, request: ListRequest) -> Result<ObjectList, ClientError> {
        let path = with_query(selection_path(&request), "limit", LIST_PAGE_OBJECTS);
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let body = self
                .get_page(with_query(path.clone(), "continue", &token))
                .await?;
            let page = decode::list_page(&body)?;
            items.extend(page.items);
            if page.next.is_empty() {
                return Ok(ObjectList {
                    items,
                    revision: page.revision,
                });
            }
            token = page.next;
        }
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, ClientError> {
        let path = with_query(selection_path(&request.list), "watch", "true");
        let path = with_query(path, "allowWatchBookmarks", "true");
        let path = with_query(path, "resourceVersion", &request.after_revision.to_string());
        let opening = Request {
            method: Method::Get,
            path,
            content_type: "",
            body: Bytes::new(),
        };
        let answer = self.start(opening, ANY_FORM).await?;
        let code = answer.status().as_u16();
        if code >= 400 {
            return Err(failure(code, &collect(answer.into_body()).await?).into());
        }
        let (sender, receiver) = mpsc::channel(WATCH_EVENTS_AHEAD);
        env::spawn(async move {
            tokio::select! {
                biased;
                () = sender.closed() => {}
                () = pump(answer.into_body(), &sender) => {}
            }
        });
        Ok(receiver)
    }
}

/// Hands the events of a watch on, until the server ends it or a frame cannot be read.
async fn pump(mut body: Incoming, sender: &mpsc::Sender<WatchEvent>) {
    let mut frames = decode::Frames::default();
    while let Some(frame) = body.frame().await {
        let chunk = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(_trailers)) => continue,
            Err(error) => {
                tracing::debug!(%error, "a watch broke off");
                return;
            }
        };
        let events = match frames.push(&chunk) {
            Ok(events) => events,
            Err(error) => vec![WatchEvent::Error(ApiError::internal(error))],
        };
        for event in events {
            let is_last = matches!(event, WatchEvent::Error(_));
            if sender.send(event).await.is_err() || is_last {
                return;
            }
        }
    }
}

/// The headers of every request: who asks.
fn naming(user_agent: &str) -> Result<HeaderMap, ClientError> {
    let agent = HeaderValue::from_str(user_agent).map_err(unusable)?;
    Ok(HeaderMap::from_iter([(header::USER_AGENT, agent)]))
}

fn selection_path(request: &ListRequest) -> String {
    let path = collection_path(&request.resource, request.namespace.as_deref());
    let path = with_query(path, "labelSelector", &request.label_selector);
    with_query(path, "fieldSelector", &request.field_selector)
}

async fn collect(body: Incoming) -> Result<Bytes, ClientError> {
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| ClientError::Unreachable(format!("the answer broke off: {error}")))
}

/// The texts in `Warning: 299 - "text"` headers (RFC 7234 §5.5).
fn warnings(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::WARNING)
        .iter()
        .filter_map(|value| {
            let quoted = value.to_str().ok()?.splitn(3, ' ').nth(2)?;
            let text = quoted
                .strip_prefix('"')?
                .strip_suffix('"')
                .unwrap_or(quoted);
            Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
        })
        .collect()
}

fn method_name(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
    }
}

/// The whole chain of causes, as an operator needs it.
fn unreachable(error: impl std::error::Error) -> ClientError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    ClientError::Unreachable(text)
}

fn unusable(error: impl std::fmt::Display) -> ClientError {
    ClientError::Malformed(format!("the request cannot be made: {error}"))
}

//! Opens connections for the pool: TCP, then TLS with the protocol chosen by ALPN; or a socket on this machine.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::{Protocols, client_config};
use super::{HttpConfig, Route, unusable};
use crate::ClientError;

/// TCP and TLS together must be done in this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub(super) enum Connector {
    Network(NetworkConnector),
    /// Whoever listens at this path, without TLS.
    Socket(Arc<Path>),
}

#[derive(Clone)]
pub(super) struct NetworkConnector {
    pooled: Arc<rustls::ClientConfig>,
    http1: Arc<rustls::ClientConfig>,
    server_name: Option<String>,
    route: Arc<dyn Route>,
}

impl std::fmt::Debug for NetworkConnector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("NetworkConnector")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(config: &HttpConfig) -> Result<Self, ClientError> {
        let build = |protocols| {
            client_config(config, protocols)
                .map(Arc::new)
                .map_err(unusable)
        };
        Ok(Self::Network(NetworkConnector {
            pooled: build(Protocols::Http2OrHttp1)?,
            http1: build(Protocols::Http1)?,
            server_name: config.server_name.clone(),
            route: Arc::clone(&config.route),
        }))
    }

    /// A connection for the pool.
    async fn connect(&self, uri: &Uri) -> io::Result<Stream> {
        match self {
            Self::Network(network) => network.open(uri, Arc::clone(&network.pooled)).await,
            Self::Socket(path) => open_socket(path),
        }
    }

    /// A connection that speaks HTTP/1.1 and nothing else, as an upgrade needs it.
    pub(super) async fn connect_http1(&self, uri: &Uri) -> io::Result<Stream> {
        match self {
            Self::Network(network) => network.open(uri, Arc::clone(&network.http1)).await,
            Self::Socket(path) => open_socket(path),
        }
    }
}

fn open_socket(path: &Path) -> io::Result<Stream> {
    let stream = linux::unix_socket::connect(path).map_err(io::Error::other)?;
    stream.set_nonblocking(true)?;
    Ok(Stream::Socket(TokioIo::new(UnixStream::from_std(stream)?)))
}

impl NetworkConnector {
    async fn open(&self, uri: &Uri, tls: Arc<rustls::ClientConfig>) -> io::Result<Stream> {
        env::timeout(CONNECT_TIMEOUT, self.handshake(uri, tls))
            .await
            .map_err(|_timed_out| {
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("connect to {uri} timed out"),
                )
            })?
    }

    async fn handshake(&self, uri: &Uri, tls: Arc<rustls::ClientConfig>) -> io::Result<Stream> {
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let is_tls = uri.scheme_str() != Some("http");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = self.route.connect(host, port).await?;
        if !is_tls {
            return Ok(Stream::Plain(TokioIo::new(stream)));
        }
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(TokioIo::new(stream))))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(&uri).await })
    }
}

pub(super) enum Stream {
    Plain(TokioIo<TcpStream>),
    Socket(TokioIo<UnixStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_) | Self::Socket(_) => Connected::new(),
            Self::Tls(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            Self::Tls(_) => Connected::new(),
        }
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Socket(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Socket(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Socket(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Socket(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}

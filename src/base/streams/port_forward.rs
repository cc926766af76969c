//! Port-forward: many connections to ports over one upgraded connection, each a data stream and an error stream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::error::{Error, Result};
use crate::handshake::PortForwardProtocol;
use crate::spdy::{Headers, Incoming, SpdyConnection, SpdyStream};
use crate::web_socket::{ByteTunnel, ChannelSettings, ChannelSocket, Direction};
use crate::{ByteReader, ByteWriter, Disconnected, Transport};

/// Requests of which one of the two streams has arrived.
const HALVES_MAX: usize = 64;
/// Ports in one request over WebSocket channels: each needs two channels with one-byte numbers.
const PORTS_MAX: usize = 100;
/// What a server may say in an error stream.
const ERROR_BYTES_MAX: u64 = 64 * 1024;
const STREAM_TYPE: &str = "streamType";
const PORT: &str = "port";
const REQUEST_ID: &str = "requestID";

/// One connection that a client wants to a port.
pub struct ForwardRequest {
    pub port: u16,
    /// What the client sends.
    pub reader: ByteReader,
    /// What the client gets.
    pub writer: ByteWriter,
    pub error: ForwardError,
}

/// Where a failed connection is told.
pub struct ForwardError(ByteWriter);

impl ForwardError {
    /// Sends the reason; the client closes its connection.
    pub async fn fail(mut self, reason: &str) {
        // The client may be gone: then nobody needs the reason.
        if self.0.write_all(reason.as_bytes()).await.is_ok() {
            let _gone = self.0.shutdown().await;
        }
    }
}

/// The server's side.
pub struct PortForwardServer(Kind);

enum Kind {
    Spdy {
        connection: SpdyConnection,
        halves: BTreeMap<String, Half>,
    },
    Channels {
        socket: ChannelSocket,
        requests: std::vec::IntoIter<ForwardRequest>,
    },
}

struct Half {
    port: u16,
    data: Option<SpdyStream>,
    error: Option<SpdyStream>,
}

impl PortForwardServer {
    /// Takes an upgraded connection. `ports` are the request's, which count for plain WebSocket only.
    pub async fn new(
        io: impl Transport,
        protocol: PortForwardProtocol,
        ports: &[u16],
    ) -> Result<Self> {
        let spdy = |connection| {
            Ok(Self(Kind::Spdy {
                connection,
                halves: BTreeMap::new(),
            }))
        };
        match protocol {
            PortForwardProtocol::Spdy => spdy(SpdyConnection::server(io)),
            PortForwardProtocol::SpdyInWebSocket => spdy(SpdyConnection::server(
                ByteTunnel::new(io, Role::Server).await,
            )),
            PortForwardProtocol::WebSocket(encoding) => {
                if ports.is_empty() || ports.len() > PORTS_MAX {
                    return Err(Error::Protocol("the request must name 1 to 100 ports"));
                }
                let directions = ports
                    .iter()
                    .flat_map(|_| [Direction::Both, Direction::Out])
                    .collect();
                let settings = ChannelSettings {
                    encoding,
                    close_signal: false,
                    directions,
                    keep_alive: None,
                };
                let (socket, channels) = ChannelSocket::start(io, Role::Server, settings).await;
                let mut channels = channels.into_iter();
                let mut requests = Vec::new();
                while let (Some(data), Some(error)) = (channels.next(), channels.next()) {
                    let port = ports[requests.len()];
                    let (Some(reader), Some(mut writer), Some(mut failure)) =
                        (data.reader, data.writer, error.writer)
                    else {
                        break;
                    };
                    // Each channel begins with its port, lowest byte first.
                    writer.write_all(&port.to_le_bytes()).await?;
                    failure.write_all(&port.to_le_bytes()).await?;
                    requests.push(ForwardRequest {
                        port,
                        reader,
                        writer,
                        error: ForwardError(failure),
                    });
                }
                Ok(Self(Kind::Channels {
                    socket,
                    requests: requests.into_iter(),
                }))
            }
        }
    }

    /// The next connection; `None` when the client goes. Cancel safe.
    pub async fn next(&mut self) -> Option<ForwardRequest> {
        match &mut self.0 {
            Kind::Channels { socket, requests } => {
                if let Some(request) = requests.next() {
                    Some(request)
                } else {
                    socket.disconnected().wait().await;
                    None
                }
            }
            Kind::Spdy { connection, halves } => loop {
                let incoming = connection.accept().await?;
                if let Some(request) = pair(incoming, halves).await {
                    return Some(request);
                }
            },
        }
    }

    pub fn disconnected(&self) -> Disconnected {
        match &self.0 {
            Kind::Channels { socket, .. } => socket.disconnected(),
            Kind::Spdy { connection, .. } => connection.disconnected(),
        }
    }

    /// Closes the connection with all that is forwarded over it.
    pub async fn close(self) {
        match self.0 {
            Kind::Channels { socket, .. } => socket.close().await,
            Kind::Spdy { connection, .. } => connection.close().await,
        }
    }
}

/// Puts an arrived stream to its other half; refuses what is malformed.
async fn pair(incoming: Incoming, halves: &mut BTreeMap<String, Half>) -> Option<ForwardRequest> {
    let headers = incoming.headers();
    let port = headers
        .get(PORT)
        .and_then(|port| port.parse::<u16>().ok())
        .filter(|port| *port > 0);
    let is_data = match headers.get(STREAM_TYPE) {
        Some("data") => true,
        Some("error") => false,
        _ => {
            incoming.refuse().await;
            return None;
        }
    };
    let Some(port) = port else {
        incoming.refuse().await;
        return None;
    };
    let id = request_id(&incoming, is_data);
    if !halves.contains_key(&id) && halves.len() >= HALVES_MAX {
        incoming.refuse().await;
        return None;
    }
    let stream = incoming.accept().await.ok()?;
    let half = halves.entry(id.clone()).or_insert(Half {
        port,
        data: None,
        error: None,
    });
    let place = if is_data {
        &mut half.data
    } else {
        &mut half.error
    };
    if place.is_some() {
        stream.reset().await;
        return None;
    }
    *place = Some(stream);
    if half.data.is_none() || half.error.is_none() {
        return None;
    }
    let Half {
        port,
        data: Some(data),
        error: Some(error),
    } = halves.remove(&id)?
    else {
        return None;
    };
    let (reader, writer) = tokio::io::split(data);
    Some(ForwardRequest {
        port,
        reader: Box::new(reader),
        writer: Box::new(writer),
        error: ForwardError(Box::new(error)),
    })
}

/// The oldest clients give no id but open the error stream and then the data stream: the ids of the streams tell.
fn request_id(incoming: &Incoming, is_data: bool) -> String {
    match incoming.headers().get(REQUEST_ID) {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => incoming
            .id()
            .saturating_sub(if is_data { 2 } else { 0 })
            .to_string(),
    }
}

/// The client's side: opens connections to ports.
pub struct PortForwardClient {
    connection: SpdyConnection,
    next_request: AtomicU64,
}

/// A connection to a port.
pub struct Forwarded {
    pub reader: ByteReader,
    pub writer: ByteWriter,
    /// What went wrong; empty when nothing did. Read it to its end.
    error: ByteReader,
}

impl Forwarded {
    /// Splits off the future that tells what went wrong: `None` when the connection ended without an error.
    pub fn into_parts(
        self,
    ) -> (
        ByteReader,
        ByteWriter,
        impl Future<Output = Option<String>> + Send,
    ) {
        let error = self.error;
        let told = async move {
            let mut text = Vec::new();
            let _connection_failed = error.take(ERROR_BYTES_MAX).read_to_end(&mut text).await;
            (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
        };
        (self.reader, self.writer, told)
    }
}

impl PortForwardClient {
    /// Takes an upgraded connection. Plain WebSocket channels are for browsers; this client does not speak them.
    pub async fn new(io: impl Transport, protocol: PortForwardProtocol) -> Result<Self> {
        let connection = match protocol {
            PortForwardProtocol::Spdy => SpdyConnection::client(io),
            PortForwardProtocol::SpdyInWebSocket => {
                SpdyConnection::client(ByteTunnel::new(io, Role::Client).await)
            }
            PortForwardProtocol::WebSocket(_) => {
                return Err(Error::NotUpgraded(String::from("port-forward needs SPDY")));
            }
        };
        Ok(Self {
            connection,
            next_request: AtomicU64::new(0),
        })
    }

    pub async fn open(&self, port: u16) -> Result<Forwarded> {
        let request = self
            .next_request
            .fetch_add(1, Ordering::Relaxed)
            .to_string();
        let headers = |kind| {
            Headers::new()
                .with(STREAM_TYPE, kind)
                .with(PORT, &port.to_string())
                .with(REQUEST_ID, &request)
        };
        let mut error = self.connection.open(headers("error")).await?;
        // The client says nothing there.
        error.shutdown().await?;
        let data = self.connection.open(headers("data")).await?;
        let (reader, writer) = tokio::io::split(data);
        Ok(Forwarded {
            reader: Box::new(reader),
            writer: Box::new(writer),
            error: Box::new(error),
        })
    }

    pub fn disconnected(&self) -> Disconnected {
        self.connection.disconnected()
    }

    pub async fn close(self) {
        self.connection.close().await;
    }
}

//! The streams of an exec or attach, the same whatever the connection speaks.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::error::{Error, Result};
use crate::handshake::{RemoteCommandProtocol, RemoteCommandVersion};
use crate::spdy::{Headers, Incoming, SpdyConnection, SpdyStream};
use crate::web_socket::{Channel, ChannelSettings, ChannelSocket, Direction};
use crate::{ByteReader, ByteWriter, Disconnected, Transport};

/// How long a client may take to open its streams.
const STREAM_CREATION_TIMEOUT: Duration = Duration::from_secs(30);
/// Sizes of a terminal that nobody has taken yet; older ones hold the client up.
const RESIZES_MAX: usize = 8;
/// The longest resize event, in bytes.
const RESIZE_BYTES_MAX: usize = 1024;
/// What a server may say in the error channel.
const STATUS_BYTES_MAX: u64 = 1024 * 1024;
const STDIN: usize = 0;
const STDOUT: usize = 1;
const STDERR: usize = 2;
const ERROR: usize = 3;
const RESIZE: usize = 4;
/// The streams' names, by channel, over SPDY.
const STREAM_TYPES: [&str; 5] = ["stdin", "stdout", "stderr", "error", "resize"];
const STREAM_TYPE: &str = "streamType";

/// Columns and rows of a terminal, as clients send them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// Which streams a request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WantedStreams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// A terminal: its size can change.
    pub tty: bool,
}

/// The server's side. What was not asked for is `None`.
pub struct RemoteCommandStreams {
    pub stdin: Option<ByteReader>,
    pub stdout: Option<ByteWriter>,
    pub stderr: Option<ByteWriter>,
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
    pub disconnected: Disconnected,
    pub error: ErrorChannel,
}

/// Says how the command ended, once, after all output.
pub struct ErrorChannel {
    writer: Option<ByteWriter>,
    version: RemoteCommandVersion,
    connection: Connection,
}

enum Connection {
    WebSocket(ChannelSocket),
    /// The streams that are not handed out are kept open with the connection.
    Spdy(SpdyConnection),
}

/// How a command ended, in both forms that clients understand.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The status as JSON (v4 and v5).
    pub status_json: &'a [u8],
    /// The message of a failure, `None` after success (before v4).
    pub failure: Option<&'a str>,
}

impl ErrorChannel {
    /// Sends the outcome, closes the connection and waits until it has left. Drop the output writers before.
    pub async fn finish(mut self, outcome: Outcome<'_>) -> Result<()> {
        let text = match (self.version >= RemoteCommandVersion::V4, outcome.failure) {
            (true, _) => outcome.status_json,
            (false, Some(message)) => message.as_bytes(),
            (false, None) => &[],
        };
        let mut sent = Ok(());
        if let Some(mut writer) = self.writer.take() {
            sent = writer.write_all(text).await;
            // Over WebSocket the end of the connection says it.
            if matches!(self.connection, Connection::Spdy(_)) && sent.is_ok() {
                sent = writer.shutdown().await;
            }
        }
        match self.connection {
            Connection::WebSocket(socket) => socket.close().await,
            Connection::Spdy(connection) => connection.close().await,
        }
        Ok(sent?)
    }
}

/// Opens the server's side on an upgraded connection. `keep_alive` pings a WebSocket client so often.
pub async fn serve(
    io: impl Transport,
    protocol: RemoteCommandProtocol,
    wanted: WantedStreams,
    keep_alive: Option<Duration>,
) -> Result<RemoteCommandStreams> {
    match protocol {
        RemoteCommandProtocol::WebSocket(version, encoding) => {
            let unless = |asked, direction| if asked { direction } else { Direction::Unused };
            let directions = vec![
                unless(wanted.stdin, Direction::In),
                unless(wanted.stdout, Direction::Out),
                unless(wanted.stderr, Direction::Out),
                Direction::Out,
                unless(wanted.tty, Direction::In),
            ];
            let close_signal = version == RemoteCommandVersion::V5;
            let settings = ChannelSettings {
                encoding,
                close_signal,
                directions,
                keep_alive,
            };
            serve_web_socket(io, version, wanted, settings).await
        }
        RemoteCommandProtocol::Spdy(version) => {
            env::timeout(STREAM_CREATION_TIMEOUT, serve_spdy(io, version, wanted))
                .await
                .map_err(|_| Error::TimedOut("the client to create streams"))?
        }
    }
}

async fn serve_web_socket(
    io: impl Transport,
    version: RemoteCommandVersion,
    wanted: WantedStreams,
    settings: ChannelSettings,
) -> Result<RemoteCommandStreams> {
    let (socket, mut channels) = ChannelSocket::start(io, Role::Server, settings).await;
    let first_writable = if wanted.stdout {
        STDOUT
    } else if wanted.stderr {
        STDERR
    } else {
        ERROR
    };
    socket
        .greet(u8::try_from(first_writable).expect("channel numbers are small"))
        .await?;
    Ok(RemoteCommandStreams {
        stdin: channels[STDIN].reader.take(),
        stdout: channels[STDOUT].writer.take(),
        stderr: channels[STDERR].writer.take(),
        resize: channels[RESIZE].reader.take().map(resizes),
        disconnected: socket.disconnected(),
        error: ErrorChannel {
            writer: channels[ERROR].writer.take(),
            version,
            connection: Connection::WebSocket(socket),
        },
    })
}

async fn serve_spdy(
    io: impl Transport,
    version: RemoteCommandVersion,
    wanted: WantedStreams,
) -> Result<RemoteCommandStreams> {
    let mut connection = SpdyConnection::server(io);
    let resizes_expected = wanted.tty && version >= RemoteCommandVersion::V3;
    let expected = [
        wanted.stdin,
        wanted.stdout,
        wanted.stderr,
        true,
        resizes_expected,
    ];
    let mut streams: [Option<SpdyStream>; 5] = Default::default();
    while expected
        .iter()
        .zip(&streams)
        .any(|(expected, stream)| *expected && stream.is_none())
    {
        let incoming = connection.accept().await.ok_or(Error::Closed)?;
        match place_of(&incoming).filter(|place| expected[*place] && streams[*place].is_none()) {
            Some(place) => streams[place] = Some(incoming.accept().await?),
            None => incoming.refuse().await,
        }
    }
    let [stdin, stdout, stderr, error, resize] = streams;
    Ok(RemoteCommandStreams {
        stdin: stdin.map(|stream| Box::new(stream) as ByteReader),
        stdout: stdout.map(|stream| Box::new(stream) as ByteWriter),
        stderr: stderr.map(|stream| Box::new(stream) as ByteWriter),
        resize: resize.map(|stream| resizes(Box::new(stream))),
        disconnected: connection.disconnected(),
        error: ErrorChannel {
            writer: error.map(|stream| Box::new(stream) as ByteWriter),
            version,
            connection: Connection::Spdy(connection),
        },
    })
}

fn place_of(incoming: &Incoming) -> Option<usize> {
    let kind = incoming.headers().get(STREAM_TYPE)?;
    STREAM_TYPES.iter().position(|known| *known == kind)
}

/// Parses resize events, JSON objects one after the other; ends at the first that is none.
fn resizes(mut reader: ByteReader) -> mpsc::Receiver<TerminalSize> {
    let (sender, receiver) = mpsc::channel(RESIZES_MAX);
    env::spawn(async move {
        let mut pending = Vec::new();
        let mut buffer = [0; 256];
        while let Ok(read) = reader.read(&mut buffer).await {
            if read == 0 {
                return;
            }
            pending.extend_from_slice(&buffer[..read]);
            let Some((sizes, consumed)) = take_sizes(&pending) else {
                return;
            };
            pending.drain(..consumed);
            for size in sizes {
                if sender.send(size).await.is_err() {
                    return;
                }
            }
            if pending.len() > RESIZE_BYTES_MAX {
                return;
            }
        }
    });
    receiver
}

/// The complete events at the beginning and their length; `None` when something else stands there.
fn take_sizes(bytes: &[u8]) -> Option<(Vec<TerminalSize>, usize)> {
    let mut sizes = Vec::new();
    let mut events = serde_json::Deserializer::from_slice(bytes).into_iter::<TerminalSize>();
    let mut consumed = 0;
    loop {
        match events.next() {
            None => return Some((sizes, bytes.len())),
            Some(Ok(size)) => {
                sizes.push(size);
                consumed = events.byte_offset();
            }
            Some(Err(error)) if error.is_eof() => return Some((sizes, consumed)),
            Some(Err(_)) => return None,
        }
    }
}

/// The client's side. What was not asked for is `None`.
pub struct ClientStreams {
    /// End it with `shutdown`, so that the command sees the end of its input.
    pub stdin: Option<ByteWriter>,
    pub stdout: Option<ByteReader>,
    pub stderr: Option<ByteReader>,
    pub resize: Option<ResizeSender>,
    pub outcome: OutcomeReader,
}

/// Tells the server a new size of the terminal.
pub struct ResizeSender(ByteWriter);

impl ResizeSender {
    pub async fn send(&mut self, size: TerminalSize) -> Result<()> {
        let mut event = serde_json::to_vec(&size).map_err(std::io::Error::from)?;
        event.push(b'\n');
        Ok(self.0.write_all(&event).await?)
    }
}

/// Waits for what the server says at the end; keeps the connection until then.
pub struct OutcomeReader {
    reader: Option<ByteReader>,
    connection: Connection,
}

impl OutcomeReader {
    /// The bytes of the error channel: a JSON status from v4 on, before that a message or nothing. Read all output before.
    pub async fn read(mut self) -> Result<Vec<u8>> {
        let mut outcome = Vec::new();
        if let Some(reader) = self.reader.take() {
            reader
                .take(STATUS_BYTES_MAX)
                .read_to_end(&mut outcome)
                .await?;
        }
        match self.connection {
            Connection::WebSocket(socket) => socket.close().await,
            Connection::Spdy(connection) => connection.close().await,
        }
        Ok(outcome)
    }
}

/// Opens the client's side on an upgraded connection. `keep_alive` pings a WebSocket server so often.
pub async fn connect(
    io: impl Transport,
    protocol: RemoteCommandProtocol,
    wanted: WantedStreams,
    keep_alive: Option<Duration>,
) -> Result<ClientStreams> {
    match protocol {
        RemoteCommandProtocol::WebSocket(version, encoding) => {
            let unless = |asked, direction| if asked { direction } else { Direction::Unused };
            let directions = vec![
                unless(wanted.stdin, Direction::Out),
                unless(wanted.stdout, Direction::In),
                unless(wanted.stderr, Direction::In),
                Direction::In,
                unless(wanted.tty, Direction::Out),
            ];
            let close_signal = version == RemoteCommandVersion::V5;
            let settings = ChannelSettings {
                encoding,
                close_signal,
                directions,
                keep_alive,
            };
            let (socket, channels) = ChannelSocket::start(io, Role::Client, settings).await;
            Ok(client_streams(channels, Connection::WebSocket(socket)))
        }
        RemoteCommandProtocol::Spdy(version) => connect_spdy(io, version, wanted).await,
    }
}

fn client_streams(channels: Vec<Channel>, connection: Connection) -> ClientStreams {
    let mut channels = channels.into_iter();
    let mut next = || {
        channels.next().unwrap_or(Channel {
            reader: None,
            writer: None,
        })
    };
    let (stdin, stdout, stderr, error, resize) = (next(), next(), next(), next(), next());
    ClientStreams {
        stdin: stdin.writer,
        stdout: stdout.reader,
        stderr: stderr.reader,
        resize: resize.writer.map(ResizeSender),
        outcome: OutcomeReader {
            reader: error.reader,
            connection,
        },
    }
}

async fn connect_spdy(
    io: impl Transport,
    version: RemoteCommandVersion,
    wanted: WantedStreams,
) -> Result<ClientStreams> {
    let connection = SpdyConnection::client(io);
    let open = async |place: usize, asked: bool| {
        if asked {
            connection
                .open(Headers::new().with(STREAM_TYPE, STREAM_TYPES[place]))
                .await
                .map(Some)
        } else {
            Ok(None)
        }
    };
    let error = open(ERROR, true).await?;
    let stdin = open(STDIN, wanted.stdin).await?;
    let stdout = open(STDOUT, wanted.stdout).await?;
    let stderr = open(STDERR, wanted.stderr).await?;
    let resize = open(RESIZE, wanted.tty && version >= RemoteCommandVersion::V3).await?;
    Ok(ClientStreams {
        stdin: stdin.map(|stream| Box::new(stream) as ByteWriter),
        stdout: stdout.map(|stream| Box::new(stream) as ByteReader),
        stderr: stderr.map(|stream| Box::new(stream) as ByteReader),
        resize: resize.map(|stream| ResizeSender(Box::new(stream))),
        outcome: OutcomeReader {
            reader: error.map(|stream| Box::new(stream) as ByteReader),
            connection: Connection::Spdy(connection),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resize_events_may_arrive_in_pieces() {
        let size = TerminalSize {
            width: 80,
            height: 24,
        };
        let event = br#"{"Width":80,"Height":24}"#;
        assert_eq!(take_sizes(event), Some((vec![size], event.len())));
        let two = [&event[..], b"\n", &event[..5]].concat();
        assert_eq!(take_sizes(&two), Some((vec![size], event.len())));
        assert_eq!(take_sizes(b"{"), Some((vec![], 0)));
        assert_eq!(take_sizes(b"x"), None);
    }
}

//! WebSocket connections cut into numbered channels, and one used as a plain stream of bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::error::{Error, Result};
use crate::handshake::Encoding;
use crate::queue::{FRAME_DATA_BYTES_MAX, QUEUE_FRAMES_MAX, QueueWriter};
use crate::{ByteReader, ByteWriter, Disconnected, Transport};

/// Read and write buffers of a connection: the library's own default is 128 KiB for each.
const BUFFER_BYTES: usize = 8 * 1024;
/// What may wait in the write buffer before writing must wait.
const WRITE_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// The longest message that is taken; some clients send a whole standard input as one.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What one channel holds for its reader.
const CHANNEL_BUFFER_BYTES: usize = 64 * 1024;
/// The first byte of a message that closes the channel in its second byte (v5).
const CLOSE_CHANNEL: u8 = 255;
/// How long a closed connection waits for its peer to close as well, so that the last data is not lost.
const LINGER: Duration = Duration::from_secs(5);

/// Which way a channel's data goes, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
    Both,
    /// Nobody asked for it: what arrives is dropped.
    Unused,
}

/// How a set of channels is spoken.
#[derive(Debug, Clone)]
pub(crate) struct ChannelSettings {
    pub(crate) encoding: Encoding,
    /// Whether a client can close one channel alone (v5). A server's channels end with the connection.
    pub(crate) close_signal: bool,
    pub(crate) directions: Vec<Direction>,
    /// Pings the peer so often, and takes it for dead when nothing came for twice as long.
    pub(crate) keep_alive: Option<Duration>,
}

/// Both ends of one channel, as far as it has them.
pub(crate) struct Channel {
    pub(crate) reader: Option<ByteReader>,
    pub(crate) writer: Option<ByteWriter>,
}

#[derive(Debug)]
enum Outgoing {
    Data {
        channel: u8,
        data: Bytes,
    },
    Close {
        channel: u8,
    },
    /// Closes the connection and ends the writing task.
    Finish,
}

/// A WebSocket connection whose messages begin with a channel's number.
pub(crate) struct ChannelSocket {
    queue: mpsc::Sender<Outgoing>,
    written: oneshot::Receiver<()>,
    gone: watch::Receiver<bool>,
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

pub(crate) async fn open<T: Transport>(io: T, role: Role) -> WebSocketStream<T> {
    WebSocketStream::from_raw_socket(io, role, Some(config())).await
}

impl ChannelSocket {
    pub(crate) async fn start(
        io: impl Transport,
        role: Role,
        settings: ChannelSettings,
    ) -> (Self, Vec<Channel>) {
        let (sink, stream) = open(io, role).await.split();
        let (queue, outgoing) = mpsc::channel(QUEUE_FRAMES_MAX);
        let (written_sender, written) = oneshot::channel();
        let (gone_sender, gone) = watch::channel(false);
        let mut targets = Vec::new();
        let mut channels = Vec::new();
        for (number, direction) in (0u8..).zip(&settings.directions) {
            let (target, channel) = make_channel(
                number,
                *direction,
                settings.close_signal && role == Role::Client,
                &queue,
            );
            targets.push(target);
            channels.push(channel);
        }
        let (writer_settings, writer_gone) = (settings.clone(), gone.clone());
        env::spawn(async move {
            let _connection_failed =
                write_messages(sink, outgoing, &writer_settings, writer_gone).await;
            let _nobody_waits = written_sender.send(());
        });
        env::spawn(async move {
            let _ended = read_messages(stream, targets, &settings).await;
            gone_sender.send_replace(true);
        });
        (
            Self {
                queue,
                written,
                gone,
            },
            channels,
        )
    }

    /// Sends an empty message on a channel: tells clients that the connection stands.
    pub(crate) async fn greet(&self, channel: u8) -> Result<()> {
        self.queue
            .send(Outgoing::Data {
                channel,
                data: Bytes::new(),
            })
            .await
            .map_err(|_| Error::Closed)
    }

    pub(crate) fn disconnected(&self) -> Disconnected {
        Disconnected::new(self.gone.clone())
    }

    /// Sends what is queued and closes normally.
    pub(crate) async fn close(self) {
        if self.queue.send(Outgoing::Finish).await.is_err() {
            return;
        }
        let _failed = self.written.await;
        let _too_slow = env::timeout(LINGER, Disconnected::new(self.gone).wait()).await;
    }
}

fn make_channel(
    number: u8,
    direction: Direction,
    tells_end: bool,
    queue: &mpsc::Sender<Outgoing>,
) -> (Option<DuplexStream>, Channel) {
    let mut channel = Channel {
        reader: None,
        writer: None,
    };
    let mut target = None;
    if matches!(direction, Direction::In | Direction::Both) {
        let (reader, writer) = tokio::io::duplex(CHANNEL_BUFFER_BYTES);
        channel.reader = Some(Box::new(reader));
        target = Some(writer);
    }
    if matches!(direction, Direction::Out | Direction::Both) {
        let frame = move |data| Outgoing::Data {
            channel: number,
            data,
        };
        let end = tells_end.then_some(Outgoing::Close { channel: number });
        let closed = Arc::new(AtomicBool::new(false));
        channel.writer = Some(Box::new(QueueWriter::new(
            queue.clone(),
            frame,
            end,
            closed,
        )));
    }
    (target, channel)
}

async fn write_messages<T: Transport>(
    mut sink: SplitSink<WebSocketStream<T>, Message>,
    mut queue: mpsc::Receiver<Outgoing>,
    settings: &ChannelSettings,
    mut gone: watch::Receiver<bool>,
) -> Result<(), WsError> {
    let code = loop {
        let idle = async {
            match settings.keep_alive {
                Some(period) => env::sleep(period).await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            biased;
            outgoing = queue.recv() => match outgoing {
                Some(Outgoing::Data { channel, data }) => encode(settings.encoding, channel, &data),
                Some(Outgoing::Close { channel }) => Message::binary(vec![CLOSE_CHANNEL, channel]),
                Some(Outgoing::Finish) => break CloseCode::Normal,
                // Given up without a word: the peer must not take that for success.
                None => break CloseCode::Error,
            },
            _ = gone.wait_for(|gone| *gone) => break CloseCode::Normal,
            () = idle => Message::Ping(Bytes::new()),
        };
        sink.feed(message).await?;
        if queue.is_empty() {
            sink.flush().await?;
        }
    };
    sink.send(Message::Close(Some(CloseFrame {
        code,
        reason: "".into(),
    })))
    .await
}

async fn read_messages<T: Transport>(
    mut stream: SplitStream<WebSocketStream<T>>,
    mut targets: Vec<Option<DuplexStream>>,
    settings: &ChannelSettings,
) -> Result<()> {
    loop {
        let next = match settings.keep_alive {
            Some(period) => env::timeout(period * 2, stream.next())
                .await
                .map_err(|_| Error::Closed)?,
            None => stream.next().await,
        };
        let message = match next {
            None | Some(Ok(Message::Close(_)) | Err(_)) => return Ok(()),
            Some(Ok(Message::Binary(data))) => data,
            Some(Ok(Message::Text(text))) => Bytes::copy_from_slice(text.as_bytes()),
            // The library answers pings itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
        };
        if settings.close_signal && message.first() == Some(&CLOSE_CHANNEL) {
            let &[_, channel] = message.as_ref() else {
                return Err(Error::Protocol("a close signal names one channel"));
            };
            let target = targets.get_mut(usize::from(channel));
            *target.ok_or(Error::Protocol("a close signal for an unknown channel"))? = None;
            continue;
        }
        let Some((channel, data)) = decode(settings.encoding, &message)? else {
            continue;
        };
        if let Some(Some(target)) = targets.get_mut(usize::from(channel)) {
            // An error says that nobody reads the channel any more: its data is dropped.
            let _unread = target.write_all(&data).await;
        }
    }
}

fn encode(encoding: Encoding, channel: u8, data: &[u8]) -> Message {
    match encoding {
        Encoding::Binary => Message::binary([&[channel], data].concat()),
        Encoding::Base64 => Message::text(format!(
            "{}{}",
            char::from(b'0' + channel),
            STANDARD.encode(data)
        )),
    }
}

/// The channel and the data of a message; an empty message says nothing.
fn decode(encoding: Encoding, message: &Bytes) -> Result<Option<(u8, Bytes)>> {
    let Some(first) = message.first() else {
        return Ok(None);
    };
    match encoding {
        Encoding::Binary => Ok(Some((*first, message.slice(1..)))),
        Encoding::Base64 => {
            let channel = first
                .checked_sub(b'0')
                .ok_or(Error::Protocol("a message names no channel"))?;
            let data = STANDARD
                .decode(&message[1..])
                .map_err(|_| Error::Protocol("a message is not base64"))?;
            Ok(Some((channel, data.into())))
        }
    }
}

/// Sends all that `output` gives as messages without channels, such as logs, and closes; ends early when the client goes.
pub async fn send_output(
    io: impl Transport,
    encoding: Encoding,
    mut output: impl AsyncRead + Unpin,
) -> Result<()> {
    use tokio::io::AsyncReadExt;
    let (mut sink, mut stream) = open(io, Role::Server).await.split();
    let mut buffer = vec![0; FRAME_DATA_BYTES_MAX];
    loop {
        let read = tokio::select! {
            biased;
            message = stream.next() => match message {
                // Clients have nothing to say here.
                Some(Ok(message)) if !message.is_close() => continue,
                _ => return Ok(()),
            },
            read = output.read(&mut buffer) => read?,
        };
        if read == 0 {
            break;
        }
        let message = match encoding {
            Encoding::Binary => Message::binary(buffer[..read].to_vec()),
            Encoding::Base64 => Message::text(STANDARD.encode(&buffer[..read])),
        };
        sink.send(message).await.map_err(into_io)?;
    }
    let close = Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }));
    sink.send(close).await.map_err(into_io)?;
    let ended = async { while let Some(Ok(_)) = stream.next().await {} };
    let _too_slow = env::timeout(LINGER, ended).await;
    Ok(())
}

/// A WebSocket connection as a stream of bytes, its messages' borders without meaning.
pub(crate) struct ByteTunnel<T> {
    socket: WebSocketStream<T>,
    received: Bytes,
}

impl<T: Transport> ByteTunnel<T> {
    pub(crate) async fn new(io: T, role: Role) -> Self {
        Self {
            socket: open(io, role).await,
            received: Bytes::new(),
        }
    }
}

impl<T: Transport> AsyncRead for ByteTunnel<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.received.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                Some(Ok(Message::Binary(data))) => self.received = data,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "invalid message type received",
                    )));
                }
                Some(Ok(_)) => {}
            }
        }
        let take = buffer.remaining().min(self.received.len());
        buffer.put_slice(&self.received.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for ByteTunnel<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(into_io)?;
        let data = &data[..data.len().min(FRAME_DATA_BYTES_MAX)];
        Pin::new(&mut self.socket)
            .start_send(Message::binary(data.to_vec()))
            .map_err(into_io)?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket)
            .poll_flush(context)
            .map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_close(context)) {
            Ok(()) | Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(into_io(error))),
        }
    }
}

fn into_io(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::ConnectionAborted, other.to_string()),
    }
}

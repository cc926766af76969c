//! One SPDY connection: a task that reads, a task that writes, and streams that know only their buffers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};

use super::frame::{self, Control, Head};
use super::headers::{HeaderCompressor, HeaderDecompressor, Headers};
use crate::error::{Error, Result};
use crate::queue::{QUEUE_FRAMES_MAX, QueueWriter};
use crate::{Disconnected, Transport};

/// Streams open at a time on one connection.
const STREAMS_MAX: usize = 1024;
/// Streams that the peer opened and nobody has taken yet.
const INCOMING_MAX: usize = 32;
/// What one stream holds for its reader, in bytes.
const STREAM_BUFFER_BYTES: usize = 128 * 1024;
const COPY_BYTES: usize = 8 * 1024;
/// Answers to the peer that wait to be sent. A peer that asks for more without reading breaks the protocol.
const ANSWERS_MAX: usize = 256;
/// A window is given back in steps of half of SPDY's initial 64 KiB.
const WINDOW_STEP_BYTES: u32 = 32 * 1024;
/// How long a peer may take to accept a stream.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a closed connection waits for its peer to close as well, so that the last data is not lost.
const LINGER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

#[derive(Debug)]
enum Outgoing {
    Open {
        stream: u32,
        headers: Headers,
    },
    Reply {
        stream: u32,
    },
    Data {
        stream: u32,
        data: Bytes,
    },
    End {
        stream: u32,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
    /// The last frame: says goodbye and ends the writing task.
    GoAway,
}

/// One side of a connection. It ends with `close`, or when this and all its streams are dropped.
pub struct SpdyConnection {
    queue: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Incoming>,
    written: Option<oneshot::Receiver<()>>,
}

struct Shared {
    streams: Mutex<BTreeMap<u32, Entry>>,
    /// The id of the next stream that this side opens. Held while one is opened, because ids must arrive in order.
    next_id: tokio::sync::Mutex<u32>,
    disconnected: watch::Sender<bool>,
}

/// What the reading task knows of a stream.
struct Entry {
    /// Where its data goes; `None` once the peer has said all.
    data: Option<Arc<tokio::sync::Mutex<DuplexStream>>>,
    reply: Option<oneshot::Sender<bool>>,
    unacknowledged_bytes: u32,
    /// Told to the stream's writer: the peer takes no more.
    reset: Arc<AtomicBool>,
}

/// A stream that the peer wants to open.
pub struct Incoming {
    queue: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
    id: u32,
    headers: Headers,
    buffers: Buffers,
}

/// An open stream: reads until the peer has said all, writes until `shutdown`.
pub struct SpdyStream {
    id: u32,
    headers: Headers,
    queue: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
    data: DuplexStream,
    writer: QueueWriter<Outgoing>,
}

impl SpdyConnection {
    /// Speaks as the server on an upgraded connection. Needs a tokio runtime.
    pub fn server(io: impl Transport) -> Self {
        Self::start(io, Role::Server)
    }

    /// Speaks as the client on an upgraded connection. Needs a tokio runtime.
    pub fn client(io: impl Transport) -> Self {
        Self::start(io, Role::Client)
    }

    fn start(io: impl Transport, role: Role) -> Self {
        let (reader, writer) = tokio::io::split(io);
        let (queue, outgoing) = mpsc::channel(QUEUE_FRAMES_MAX);
        let (answers_sender, answers) = mpsc::channel(ANSWERS_MAX);
        let (incoming_sender, incoming) = mpsc::channel(INCOMING_MAX);
        let (written_sender, written) = oneshot::channel();
        let shared = Arc::new(Shared {
            streams: Mutex::new(BTreeMap::new()),
            next_id: tokio::sync::Mutex::new(if role == Role::Client { 1 } else { 2 }),
            disconnected: watch::Sender::new(false),
        });
        let gone = shared.disconnected.subscribe();
        env::spawn(async move {
            let _connection_failed = write_frames(writer, outgoing, answers, gone).await;
            let _nobody_waits = written_sender.send(());
        });
        let reading = Reading {
            reader,
            role,
            queue: queue.downgrade(),
            answers: answers_sender,
            shared: Arc::clone(&shared),
            incoming: Some(incoming_sender),
            last_opened: 0,
            connection_unacknowledged_bytes: 0,
        };
        env::spawn(reading.run());
        Self {
            queue,
            shared,
            incoming,
            written: Some(written),
        }
    }

    /// The next stream that the peer opens; `None` when the connection ends.
    pub async fn accept(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    /// Opens a stream and waits until the peer has accepted it.
    pub async fn open(&self, headers: Headers) -> Result<SpdyStream> {
        let (reply_sender, reply) = oneshot::channel();
        let mut next_id = self.shared.next_id.lock().await;
        let id = *next_id;
        *next_id = id
            .checked_add(2)
            .filter(|id| *id < 1 << 31)
            .ok_or(Error::Protocol("no stream ids are left"))?;
        let buffers = self.shared.enter(id, Some(reply_sender))?;
        let open = Outgoing::Open {
            stream: id,
            headers: headers.clone(),
        };
        self.queue.send(open).await.map_err(|_| Error::Closed)?;
        drop(next_id);
        match env::timeout(REPLY_TIMEOUT, reply).await {
            Ok(Ok(true)) => Ok(SpdyStream::new(
                id,
                headers,
                &self.queue,
                &self.shared,
                buffers,
            )),
            Ok(Ok(false)) => Err(Error::Refused),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => {
                self.shared.leave(id);
                Err(Error::TimedOut("the peer to accept a stream"))
            }
        }
    }

    /// Resolves when the peer is gone.
    pub fn disconnected(&self) -> Disconnected {
        Disconnected::new(self.shared.disconnected.subscribe())
    }

    /// Sends what is queued, says goodbye and closes; what the peer still sends is dropped.
    pub async fn close(mut self) {
        self.incoming.close();
        if self.queue.send(Outgoing::GoAway).await.is_err() {
            return;
        }
        let disconnected = self.disconnected();
        if let Some(written) = self.written.take() {
            let _failed = written.await;
        }
        let _too_slow = env::timeout(LINGER, disconnected.wait()).await;
    }
}

impl Shared {
    fn enter(&self, id: u32, reply: Option<oneshot::Sender<bool>>) -> Result<Buffers> {
        let (reader, writer) = tokio::io::duplex(STREAM_BUFFER_BYTES);
        let mut streams = self.streams.lock();
        if *self.disconnected.borrow() {
            return Err(Error::Closed);
        }
        if streams.len() >= STREAMS_MAX {
            return Err(Error::Refused);
        }
        let data = Some(Arc::new(tokio::sync::Mutex::new(writer)));
        let reset = Arc::new(AtomicBool::new(false));
        streams.insert(
            id,
            Entry {
                data,
                reply,
                unacknowledged_bytes: 0,
                reset: Arc::clone(&reset),
            },
        );
        Ok(Buffers {
            data: reader,
            reset,
        })
    }

    /// Forgets a stream; its reader sees the end, its writer fails.
    fn leave(&self, id: u32) {
        if let Some(entry) = self.streams.lock().remove(&id) {
            entry.reset.store(true, Ordering::Relaxed);
        }
    }
}

/// What a stream shares with the reading task.
struct Buffers {
    data: DuplexStream,
    reset: Arc<AtomicBool>,
}

impl Incoming {
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub async fn accept(self) -> Result<SpdyStream> {
        self.queue
            .send(Outgoing::Reply { stream: self.id })
            .await
            .map_err(|_| Error::Closed)?;
        Ok(SpdyStream::new(
            self.id,
            self.headers,
            &self.queue,
            &self.shared,
            self.buffers,
        ))
    }

    pub async fn refuse(self) {
        self.shared.leave(self.id);
        let reset = Outgoing::Reset {
            stream: self.id,
            status: frame::RST_CANCEL,
        };
        let _closed = self.queue.send(reset).await;
    }
}

impl SpdyStream {
    fn new(
        id: u32,
        headers: Headers,
        queue: &mpsc::Sender<Outgoing>,
        shared: &Arc<Shared>,
        buffers: Buffers,
    ) -> Self {
        let frame = move |data| Outgoing::Data { stream: id, data };
        let end = Outgoing::End { stream: id };
        let writer = QueueWriter::new(queue.clone(), frame, Some(end), buffers.reset);
        Self {
            id,
            headers,
            queue: queue.clone(),
            shared: Arc::clone(shared),
            data: buffers.data,
            writer,
        }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Ends the stream in both directions as failed.
    pub async fn reset(self) {
        self.shared.leave(self.id);
        let reset = Outgoing::Reset {
            stream: self.id,
            status: frame::RST_CANCEL,
        };
        let _closed = self.queue.send(reset).await;
    }
}

impl Drop for SpdyStream {
    /// The writer says the end by itself; what the peer still sends is answered with a reset.
    fn drop(&mut self) {
        self.shared.streams.lock().remove(&self.id);
    }
}

impl AsyncRead for SpdyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.data).poll_read(context, buffer)
    }
}

impl AsyncWrite for SpdyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(context, data)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}

/// Ends when told goodbye, when every handle is gone, or when the peer is.
async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Outgoing>,
    mut answers: mpsc::Receiver<Outgoing>,
    mut gone: watch::Receiver<bool>,
) -> Result<()> {
    let mut compressor = HeaderCompressor::new();
    loop {
        let outgoing = tokio::select! {
            biased;
            Some(answer) = answers.recv() => Some(answer),
            outgoing = queue.recv() => outgoing,
            _ = gone.wait_for(|gone| *gone) => None,
        };
        let Some(outgoing) = outgoing else { break };
        let bytes = match outgoing {
            Outgoing::Open { stream, headers } => {
                frame::syn_stream(stream, &headers, &mut compressor)?
            }
            Outgoing::Reply { stream } => frame::syn_reply(stream, &mut compressor)?,
            Outgoing::Data { stream, data } => {
                writer
                    .write_all(&frame::data_head(stream, 0, data.len())?)
                    .await?;
                data.into()
            }
            Outgoing::End { stream } => frame::data_head(stream, frame::FLAG_FIN, 0)?.to_vec(),
            Outgoing::Reset { stream, status } => frame::rst_stream(stream, status)?,
            Outgoing::Ping { id } => frame::ping(id)?,
            Outgoing::WindowUpdate { stream, delta } => frame::window_update(stream, delta)?,
            Outgoing::GoAway => {
                writer.write_all(&frame::go_away(0)?).await?;
                break;
            }
        };
        writer.write_all(&bytes).await?;
        if queue.is_empty() {
            writer.flush().await?;
        }
    }
    writer.flush().await?;
    writer.shutdown().await?;
    Ok(())
}

/// The state of the reading task.
struct Reading<R> {
    reader: R,
    role: Role,
    /// Weak, so that the connection ends when nobody but this task knows it.
    queue: mpsc::WeakSender<Outgoing>,
    /// Never waited for: two sides that stop reading until they have answered would wait for each other for ever.
    answers: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
    /// Dropped when the peer will open no more streams.
    incoming: Option<mpsc::Sender<Incoming>>,
    last_opened: u32,
    connection_unacknowledged_bytes: u32,
}

impl<R: AsyncRead + Unpin> Reading<R> {
    async fn run(mut self) {
        // Whatever ended it, the streams see their end; there is nobody to tell why.
        let _ended = self.read_frames().await;
        self.incoming = None;
        self.shared.disconnected.send_replace(true);
        self.shared.streams.lock().clear();
    }

    async fn read_frames(&mut self) -> Result<()> {
        let mut decompressor = HeaderDecompressor::new();
        let mut payload = Vec::new();
        loop {
            let mut head = [0; frame::HEAD_BYTES];
            self.reader.read_exact(&mut head).await?;
            match frame::parse_head(head)? {
                Head::Data {
                    stream,
                    flags,
                    length,
                } => self.data(stream, flags, length).await?,
                Head::Control {
                    kind,
                    flags,
                    length,
                } => {
                    payload.clear();
                    (&mut self.reader)
                        .take(u64::from(length))
                        .read_to_end(&mut payload)
                        .await?;
                    let control = frame::parse_control(kind, flags, &payload, &mut decompressor)?;
                    self.control(control).await?;
                }
            }
        }
    }

    async fn control(&mut self, control: Control) -> Result<()> {
        match control {
            Control::Open {
                stream,
                headers,
                fin,
                unidirectional,
            } => {
                self.opened(stream, headers).await?;
                if fin || unidirectional {
                    self.ended(stream);
                }
            }
            Control::Reply { stream, fin } => {
                self.replied(stream, true);
                if fin {
                    self.ended(stream);
                }
            }
            Control::MoreHeaders { stream, fin: true } => self.ended(stream),
            Control::Reset { stream } => {
                self.replied(stream, false);
                self.shared.leave(stream);
            }
            // Each side numbers its own pings: the others want an answer.
            Control::Ping { id } if (id % 2 == 1) == (self.role == Role::Server) => {
                self.answer(Outgoing::Ping { id })?;
            }
            Control::GoAway => self.incoming = None,
            Control::Ping { .. } | Control::MoreHeaders { .. } | Control::Ignored => {}
        }
        Ok(())
    }

    async fn opened(&mut self, stream: u32, headers: Headers) -> Result<()> {
        let theirs = (stream % 2 == 1) == (self.role == Role::Server);
        if !theirs || stream <= self.last_opened {
            return self.answer(Outgoing::Reset {
                stream,
                status: frame::RST_PROTOCOL_ERROR,
            });
        }
        self.last_opened = stream;
        let entered = self
            .incoming
            .clone()
            .map(|incoming| (incoming, self.shared.enter(stream, None)));
        let Some((incoming, Ok(buffers))) = entered else {
            return self.answer(Outgoing::Reset {
                stream,
                status: frame::RST_REFUSED_STREAM,
            });
        };
        let arrived = Incoming {
            queue: self.queue.upgrade().ok_or(Error::Closed)?,
            shared: Arc::clone(&self.shared),
            id: stream,
            headers,
            buffers,
        };
        if incoming.send(arrived).await.is_err() {
            self.shared.leave(stream);
            self.answer(Outgoing::Reset {
                stream,
                status: frame::RST_REFUSED_STREAM,
            })?;
        }
        Ok(())
    }

    fn replied(&self, stream: u32, accepted: bool) {
        let reply = self
            .shared
            .streams
            .lock()
            .get_mut(&stream)
            .and_then(|entry| entry.reply.take());
        if let Some(reply) = reply {
            let _nobody_waits = reply.send(accepted);
        }
    }

    fn ended(&self, stream: u32) {
        if let Some(entry) = self.shared.streams.lock().get_mut(&stream) {
            entry.data = None;
        }
    }

    async fn data(&mut self, stream: u32, flags: u8, length: u32) -> Result<()> {
        let known = self
            .shared
            .streams
            .lock()
            .get(&stream)
            .map(|entry| entry.data.clone());
        if known.is_none() && length > 0 {
            // The next frame asks again: this answer may be left out.
            let _no_room = self.answers.try_send(Outgoing::Reset {
                stream,
                status: frame::RST_INVALID_STREAM,
            });
        }
        let target = known.flatten();
        let mut left = length as usize;
        let mut buffer = [0; COPY_BYTES];
        while left > 0 {
            let read = self
                .reader
                .read(&mut buffer[..left.min(COPY_BYTES)])
                .await?;
            if read == 0 {
                return Err(Error::Closed);
            }
            left -= read;
            if let Some(target) = &target {
                // An error says that nobody reads the stream any more: its data is dropped.
                let _unread = target.lock().await.write_all(&buffer[..read]).await;
            }
        }
        drop(target);
        self.acknowledge(stream, length);
        if flags & frame::FLAG_FIN != 0 {
            self.ended(stream);
        }
        Ok(())
    }

    /// Gives windows back; what finds no room now is given back with the next data.
    fn acknowledge(&mut self, stream: u32, length: u32) {
        let answers = &self.answers;
        let give_back = |counter: &mut u32, stream| {
            *counter = counter.saturating_add(length);
            let update = Outgoing::WindowUpdate {
                stream,
                delta: *counter,
            };
            if *counter >= WINDOW_STEP_BYTES && answers.try_send(update).is_ok() {
                *counter = 0;
            }
        };
        if let Some(entry) = self.shared.streams.lock().get_mut(&stream) {
            give_back(&mut entry.unacknowledged_bytes, stream);
        }
        give_back(&mut self.connection_unacknowledged_bytes, 0);
    }

    fn answer(&self, answer: Outgoing) -> Result<()> {
        self.answers
            .try_send(answer)
            .map_err(|_| Error::Protocol("the peer asks without reading answers"))
    }
}

//! Streams over one connection, by yamux (hashicorp's specification, version 0).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

/// Streams open at once through one tunnel.
pub const STREAMS_MAX: usize = 128;
/// A stream that one side has let go of can still count on the other: so many more are borne.
const STREAMS_ENDING_MAX: usize = 16;
/// What yamux grants a stream before it is read from.
const STREAM_WINDOW_BYTES: usize = 256 * 1024;
/// Bytes that the other side may send before they are read, all streams together.
const WINDOW_BYTES_MAX: usize = (STREAMS_MAX + STREAMS_ENDING_MAX) * STREAM_WINDOW_BYTES;
/// Openings that wait for the driver.
const OPENINGS_AHEAD: usize = 16;

/// A byte stream in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

type Opening = oneshot::Sender<Result<yamux::Stream, yamux::ConnectionError>>;

/// One stream of a tunnel.
#[derive(Debug)]
pub struct TunnelStream {
    inner: Compat<yamux::Stream>,
    _slot: OwnedSemaphorePermit,
}

/// Opens streams towards the other side. The connection ends when the last opener is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    openings: mpsc::Sender<Opening>,
    slots: Arc<Semaphore>,
}

impl Opener {
    /// A new stream, or `WouldBlock` if as many as allowed are open.
    pub(crate) async fn open(&self) -> io::Result<TunnelStream> {
        let slots = Arc::clone(&self.slots);
        let slot = slots.try_acquire_owned().map_err(|_full| {
            let text = format!("{STREAMS_MAX} streams are open already");
            io::Error::new(io::ErrorKind::WouldBlock, text)
        })?;
        let (sender, opened) = oneshot::channel();
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the connection has ended");
        self.openings.send(sender).await.map_err(|_ended| gone())?;
        let stream = opened.await.map_err(|_ended| gone())?;
        Ok(TunnelStream {
            inner: stream.map_err(io::Error::other)?.compat(),
            _slot: slot,
        })
    }
}

/// The side that opens streams. The future must run for anything to move; it ends with the connection.
pub(crate) fn opening(
    connection: impl ByteStream,
) -> (Opener, impl Future<Output = io::Result<()>> + Send) {
    let (openings, requests) = mpsc::channel(OPENINGS_AHEAD);
    let slots = Arc::new(Semaphore::new(STREAMS_MAX));
    let connection = multiplexed(connection, yamux::Mode::Client);
    // A server opens streams and is asked for none: one that comes is dropped, which resets it.
    let driver = drive(connection, requests, drop);
    (Opener { openings, slots }, driver)
}

/// The side that is asked: `serve` gets every stream the other side opens.
pub(crate) async fn accepting(
    connection: impl ByteStream,
    mut serve: impl FnMut(Compat<yamux::Stream>) + Send,
) -> io::Result<()> {
    let connection = multiplexed(connection, yamux::Mode::Server);
    // This side opens none: the sender is kept so that the driver does not take its end for the connection's.
    let (_none, requests) = mpsc::channel(1);
    drive(connection, requests, move |stream| serve(stream.compat())).await
}

type Socket = yamux::Connection<Compat<Box<dyn ByteStream>>>;

fn multiplexed(connection: impl ByteStream, mode: yamux::Mode) -> Socket {
    let connection: Box<dyn ByteStream> = Box::new(connection);
    let mut limits = yamux::Config::default();
    // Streams first: the window must hold them all, and the default allows more of both.
    limits.set_max_num_streams(STREAMS_MAX + STREAMS_ENDING_MAX);
    limits.set_max_connection_receive_window(Some(WINDOW_BYTES_MAX));
    yamux::Connection::new(connection.compat(), limits, mode)
}

/// Moves bytes until the connection ends, or until nobody can open streams any more.
async fn drive(
    mut connection: Socket,
    mut requests: mpsc::Receiver<Opening>,
    mut inbound: impl FnMut(yamux::Stream) + Send,
) -> io::Result<()> {
    let mut waiting: Option<Opening> = None;
    poll_fn(|context| {
        loop {
            if waiting.is_none() {
                match requests.poll_recv(context) {
                    Poll::Ready(Some(opening)) => waiting = Some(opening),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => {}
                }
            }
            if waiting.is_some()
                && let Poll::Ready(stream) = connection.poll_new_outbound(context)
            {
                if let Some(opening) = waiting.take() {
                    // Whoever asked may have given up; the stream then ends with the message.
                    let _given_up = opening.send(stream);
                }
                continue;
            }
            match connection.poll_next_inbound(context) {
                Poll::Ready(Some(Ok(stream))) => inbound(stream),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await?;
    poll_fn(|context| connection.poll_close(context))
        .await
        .map_err(io::Error::other)
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

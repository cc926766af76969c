//! Writers that share one connection: what is written becomes frames in one bounded queue, so its order across streams is kept.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// Frames waiting to be sent on one connection.
pub(crate) const QUEUE_FRAMES_MAX: usize = 16;
/// The longest piece of data in one frame, in bytes.
pub(crate) const FRAME_DATA_BYTES_MAX: usize = 32 * 1024;

/// Writes one stream's data into the connection's queue.
pub(crate) struct QueueWriter<F: Send + Unpin + 'static> {
    queue: PollSender<F>,
    frame: Box<dyn Fn(Bytes) -> F + Send + Sync>,
    /// Says that the stream ends; sent once, by `shutdown` or by `drop`.
    end: Option<F>,
    /// Set when the peer takes no more of this stream.
    closed: Arc<AtomicBool>,
}

impl<F: Send + Unpin + 'static> QueueWriter<F> {
    pub(crate) fn new(
        queue: mpsc::Sender<F>,
        frame: impl Fn(Bytes) -> F + Send + Sync + 'static,
        end: Option<F>,
        closed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            queue: PollSender::new(queue),
            frame: Box::new(frame),
            end,
            closed,
        }
    }
}

impl<F: Send + Unpin + 'static> AsyncWrite for QueueWriter<F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.closed.load(Ordering::Relaxed) {
            return Poll::Ready(Err(broken()));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.queue.poll_reserve(context)).map_err(|_| broken())?;
        let data = &data[..data.len().min(FRAME_DATA_BYTES_MAX)];
        let frame = (self.frame)(Bytes::copy_from_slice(data));
        self.queue.send_item(frame).map_err(|_| broken())?;
        Poll::Ready(Ok(data.len()))
    }

    /// What is in the queue is on its way; there is nothing to push.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end.is_some() {
            ready!(self.queue.poll_reserve(context)).map_err(|_| broken())?;
            if let Some(end) = self.end.take() {
                self.queue.send_item(end).map_err(|_| broken())?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<F: Send + Unpin + 'static> Drop for QueueWriter<F> {
    fn drop(&mut self) {
        let (Some(end), Some(queue)) = (self.end.take(), self.queue.get_ref().cloned()) else {
            return;
        };
        // A full queue must not lose the end; without a runtime the connection is gone as well.
        if let Err(mpsc::error::TrySendError::Full(end)) = queue.try_send(end)
            && tokio::runtime::Handle::try_current().is_ok()
        {
            env::spawn(async move {
                let _connection_closed = queue.send(end).await;
            });
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection was closed")
}

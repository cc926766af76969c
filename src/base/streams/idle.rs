//! Ends a connection on which nothing is said for too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use env::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Transport;

/// A connection that fails with `TimedOut` once no byte went either way for so long. The timer wakes once in that time, not at each byte.
pub struct IdleTimeout<T> {
    inner: T,
    clock: Arc<dyn Clock>,
    limit: Duration,
    active_at: Duration,
    timer: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<T: Transport> IdleTimeout<T> {
    /// Needs a tokio runtime.
    pub fn new(inner: T, limit: Duration, clock: Arc<dyn Clock>) -> Self {
        let active_at = clock.monotonic();
        Self {
            inner,
            clock,
            limit,
            active_at,
            timer: Box::pin(env::sleep(limit)),
        }
    }

    fn note<O>(&mut self, outcome: Poll<io::Result<O>>) -> Poll<io::Result<O>> {
        if matches!(outcome, Poll::Ready(Ok(_))) {
            self.active_at = self.clock.monotonic();
        }
        outcome
    }

    /// Ready when the limit has passed since the last byte.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let idle = self.clock.monotonic().saturating_sub(self.active_at);
            let Some(left) = self.limit.checked_sub(idle).filter(|left| !left.is_zero()) else {
                return Poll::Ready(());
            };
            self.timer = Box::pin(env::sleep(left));
        }
        Poll::Pending
    }
}

impl<T: Transport> AsyncRead for IdleTimeout<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_read(context, buffer);
        if outcome.is_pending() && self.poll_idle(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.note(outcome)
    }
}

impl<T: Transport> AsyncWrite for IdleTimeout<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, data);
        self.note(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

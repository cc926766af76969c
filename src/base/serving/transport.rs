//! One type for the connections of all servers.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use streams::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whatever is below it.
pub(crate) struct AnyTransport(Box<dyn Transport>);

impl AnyTransport {
    pub(crate) fn new(transport: impl Transport) -> Self {
        Self(Box::new(transport))
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut dyn Transport> {
        Pin::new(&mut *self.get_mut().0)
    }
}

impl AsyncRead for AnyTransport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.inner().poll_read(context, buffer)
    }
}

impl AsyncWrite for AnyTransport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.inner().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner().poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.inner().poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

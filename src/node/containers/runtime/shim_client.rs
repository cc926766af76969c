//! One connection to a shim: a call, its answer, and what comes later.

use crate::error::internal;
use crate::layout::SandboxDir;
use crate::shim::protocol::{Answer, Failure, Incoming, Received, Request, encode};
use cri::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// A connection. What it asked for ends when it is dropped.
pub(super) struct ShimConnection {
    stream: UnixStream,
    incoming: Incoming,
}

impl ShimConnection {
    pub(super) fn connect(dir: &SandboxDir) -> Result<ShimConnection, Error> {
        let stream = linux::unix_socket::connect(&dir.socket()).map_err(internal)?;
        stream.set_nonblocking(true).map_err(internal)?;
        let stream = UnixStream::from_std(stream).map_err(internal)?;
        Ok(ShimConnection {
            stream,
            incoming: Incoming::default(),
        })
    }

    /// Sends a call and waits for its answer; a failure is an `Err` of the outer or of the inner kind.
    pub(super) async fn call(
        &mut self,
        request: &Request,
        descriptors: &[OwnedFd],
    ) -> Result<Result<Answer, Failure>, Error> {
        self.send(request, descriptors).await.map_err(internal)?;
        match self.next().await.map_err(internal)? {
            Some(Answer::Failed { failure }) => Ok(Err(failure)),
            Some(answer) => Ok(Ok(answer)),
            None => Err(Error::Internal("the shim closed the connection".to_owned())),
        }
    }

    /// Descriptors that came with the last answers.
    pub(super) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.incoming.descriptors)
    }

    /// The next answer or event; `None` when the shim is gone.
    pub(super) async fn next(&mut self) -> io::Result<Option<Answer>> {
        loop {
            if let Some(answer) = self.incoming.next()? {
                return Ok(Some(answer));
            }
            let (stream, incoming) = (&self.stream, &mut self.incoming);
            let received = stream
                .async_io(Interest::READABLE, || incoming.read(stream.as_fd()))
                .await;
            match received {
                Ok(Received::Something) => {}
                Ok(Received::Closed) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    async fn send(&self, request: &Request, descriptors: &[OwnedFd]) -> io::Result<()> {
        let frame = encode(request)?;
        let mut sent = 0;
        while sent < frame.len() {
            let fds: Vec<BorrowedFd<'_>> = match sent {
                0 => descriptors.iter().map(AsFd::as_fd).collect(),
                _ => Vec::new(),
            };
            let rest = &frame[sent..];
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || {
                    linux::unix_socket::send(self.stream.as_fd(), rest, &fds)
                })
                .await?;
        }
        Ok(())
    }
}

/// A call that answers `Done`, over a connection of its own.
pub(super) async fn call_done(dir: &SandboxDir, request: &Request) -> Result<(), Error> {
    match ShimConnection::connect(dir)?.call(request, &[]).await? {
        Ok(_) => Ok(()),
        Err(failure) => Err(internal(describe(&failure))),
    }
}

/// A failure in words.
pub(super) fn describe(failure: &Failure) -> String {
    match failure {
        Failure::UnknownContainer => "the shim does not know the container".to_owned(),
        Failure::NotRunning => "the container is not running".to_owned(),
        Failure::CannotRun { message, .. } | Failure::Other { message } => message.clone(),
    }
}

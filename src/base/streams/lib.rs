//! Several streams over one upgraded HTTP connection: exec, attach, port-forward and output, for servers and clients.
//!
//! 1. [`handshake`] answers a request from its headers alone, and checks an answer.
//! 2. [`remote_command`] and [`port_forward`] take the upgraded connection and give streams, whatever it speaks.
//! 3. Whoever stands between a client and a server copies bytes ([`relay`]) and knows nothing of all this.
//!
//! Every buffer is bounded: a reader that does not read holds up its peer.

mod error;
pub mod handshake;
mod idle;
pub mod port_forward;
mod queue;
pub mod remote_command;
pub mod spdy;
mod web_socket;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

pub use error::{Error, Result};
pub use idle::IdleTimeout;
pub use web_socket::send_output;

/// An upgraded connection.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// Bytes from the peer.
pub type ByteReader = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes to the peer. `shutdown` or dropping it ends the stream, where the protocol can say so.
pub type ByteWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// Tells when the peer is gone.
#[derive(Debug, Clone)]
pub struct Disconnected(watch::Receiver<bool>);

impl Disconnected {
    pub(crate) fn new(gone: watch::Receiver<bool>) -> Self {
        Self(gone)
    }

    /// Resolves once the connection has ended; cancel safe.
    pub async fn wait(&self) {
        let mut gone = self.0.clone();
        // An error says that the reading task ended, and the connection with it.
        let _ended = gone.wait_for(|gone| *gone).await;
    }
}

/// Copies bytes both ways between two upgraded connections until both have ended; gives the counts of either way.
pub async fn relay(mut one: impl Transport, mut other: impl Transport) -> Result<(u64, u64)> {
    const BUFFER_BYTES: usize = 16 * 1024;
    Ok(
        tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER_BYTES, BUFFER_BYTES)
            .await?,
    )
}

#[cfg(test)]
mod tests;

//! The loop that every server has.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use env::Shutdown;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// After an error of `accept` (no file descriptors left, usually) others get this long to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from.
pub trait Listener: Send + Sync {
    type Stream: Send + 'static;

    /// The next connection; cancel safe.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _peer) = self.accept().await?;
        let _best_effort = stream.set_nodelay(true);
        Ok(stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _peer)| stream)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: u32,
    /// Connections that are open when the end is asked for may last this much longer.
    pub drain_time_max: Duration,
}

/// Gives each connection to `serve`, as a task of its own, until the end is asked for and the connections are closed.
///
/// Nobody ends a connection but its own task: it hears of the shutdown too, if it should not last until the process ends.
pub async fn accept_each<L, F>(
    listener: L,
    what: &'static str,
    limits: Limits,
    shutdown: &Shutdown,
    serve: impl Fn(L::Stream) -> F,
) where
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.connections_max as usize));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.requested() => break,
            accepted = next(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((slot, stream)) => {
                let served = serve(stream);
                env::spawn(async move {
                    served.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, what, "no connection could be accepted");
                env::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // All slots are free when all connections are closed.
    let closed = slots.acquire_many(limits.connections_max);
    let _drained = env::timeout(limits.drain_time_max, closed).await;
}

async fn next<L: Listener>(
    listener: &L,
    slots: &Arc<Semaphore>,
) -> io::Result<(OwnedSemaphorePermit, L::Stream)> {
    let slot = Arc::clone(slots).acquire_owned().await;
    let slot = slot.expect("the semaphore is never closed");
    Ok((slot, listener.next().await?))
}

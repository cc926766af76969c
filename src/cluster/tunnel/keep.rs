//! An agent keeps one connection to each server it knows, and dials again for as long as it lives.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use env::{Rng, Shutdown, ShutdownTrigger, sleep};

use crate::agent::{Doors, serve};
use crate::multiplexer::ByteStream;
use crate::servers::Servers;

const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// Ten thousand agents behind a server that comes back must not all wait for long, nor all come at once.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Opens the connection that a tunnel runs over.
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// Connects to `server` (`host:port`), proves who this node is, and switches to the tunnel's protocol.
    async fn connect(&self, server: &str) -> io::Result<Box<dyn ByteStream>>;
}

/// Keeps a connection to every server of `servers`, also as that list changes, until the end is asked for.
pub async fn keep(
    servers: Servers,
    link: Arc<dyn Link>,
    doors: Arc<Doors>,
    rng: Arc<dyn Rng>,
    shutdown: Shutdown,
) {
    let mut changes = servers.changes();
    let mut kept: BTreeMap<String, ShutdownTrigger> = BTreeMap::new();
    loop {
        let wanted = changes.borrow_and_update().clone();
        kept.retain(|server, end| wanted.contains(server) || !told(end));
        for server in wanted {
            kept.entry(server.clone()).or_insert_with(|| {
                let (end, ended) = Shutdown::new();
                let one = One {
                    server,
                    servers: servers.clone(),
                    link: Arc::clone(&link),
                    doors: Arc::clone(&doors),
                    rng: Arc::clone(&rng),
                };
                env::spawn(one.keep(ended));
                end
            });
        }
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    kept.values().for_each(ShutdownTrigger::trigger);
}

/// Asks for the end; true for `retain`'s sake.
fn told(end: &ShutdownTrigger) -> bool {
    end.trigger();
    true
}

/// The connection to one server.
struct One {
    server: String,
    servers: Servers,
    link: Arc<dyn Link>,
    doors: Arc<Doors>,
    rng: Arc<dyn Rng>,
}

impl One {
    async fn keep(self, ended: Shutdown) {
        tokio::select! {
            biased;
            () = ended.requested() => {}
            () = self.dial_again_and_again() => {}
        }
    }

    async fn dial_again_and_again(&self) {
        let mut pause = PAUSE_FIRST;
        loop {
            // What another call has heard of the server counts here too: it is dialled anew at once, and a connection
            // attempt of before, which may wait for packets that were lost, is given up.
            tokio::select! {
                biased;
                connected = self.connect(&mut pause) => {
                    tracing::info!(server = self.server, "the server can reach this node");
                    if let Err(error) = serve(connected, Arc::clone(&self.doors)).await {
                        tracing::warn!(server = self.server, %error, "the connection broke");
                    }
                    pause = PAUSE_FIRST;
                    self.rest(pause).await;
                }
                () = self.servers.returned(&self.server) => pause = PAUSE_FIRST,
            }
        }
    }

    /// Dials until there is a connection.
    async fn connect(&self, pause: &mut Duration) -> Box<dyn ByteStream> {
        loop {
            match self.link.connect(&self.server).await {
                Ok(connection) => return connection,
                Err(error) => {
                    tracing::warn!(server = self.server, %error, "the server is not reached");
                }
            }
            self.rest(*pause).await;
            *pause = (*pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits for `pause`, stretched by chance up to twice.
    async fn rest(&self, pause: Duration) {
        let stretch = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        sleep(pause + Duration::from_millis(self.rng.below(stretch))).await;
    }
}

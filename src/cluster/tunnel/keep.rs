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
            match self.link.connect(&self.server).await {
                Ok(connection) => {
                    tracing::info!(server = self.server, "the server can reach this node");
                    pause = PAUSE_FIRST;
                    if let Err(error) = serve(connection, Arc::clone(&self.doors)).await {
                        tracing::warn!(server = self.server, %error, "the connection broke");
                    }
                }
                Err(error) => {
                    tracing::warn!(server = self.server, %error, "the server is not reached");
                }
            }
            let stretch = self
                .rng
                .below(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
            sleep(pause + Duration::from_millis(stretch)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

//! A server's view: which nodes are connected, and streams to them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use env::{Shutdown, sleep, timeout};
use parking_lot::Mutex;

use crate::multiplexer::{ByteStream, Opener, TunnelStream, opening};
use crate::target::{Target, ask};

/// An agent that is connected is asked for a sign of life this often.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Longer than this no answer takes: a lost packet or two on a bad link, and the agent's own connecting.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// Why no stream to a node could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("node {0:?} is not connected")]
    NotConnected(String),
    #[error("the tunnel to node {node:?} is busy: {why}")]
    Busy { node: String, why: String },
    #[error("node {node:?} refused: {why}")]
    Refused { node: String, why: String },
    #[error("the tunnel to node {node:?} broke: {source}")]
    Broken { node: String, source: io::Error },
}

/// The connections of all agents. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tunnels(Arc<Mutex<Connected>>);

#[derive(Debug, Default)]
struct Connected {
    nodes: BTreeMap<String, (u64, Opener)>,
    next: u64,
}

impl Tunnels {
    /// Uses `connection` to reach `node` until it breaks, or another one takes its place, or the end is asked for.
    pub async fn hold(&self, node: &str, connection: impl ByteStream, shutdown: &Shutdown) {
        let (opener, driver) = opening(connection);
        let number = self.enter(node, opener.clone());
        tracing::info!(node, "the agent is connected");
        let ended = tokio::select! {
            biased;
            () = shutdown.requested() => Ok(()),
            ended = driver => ended,
            ended = keep_alive(node, opener) => ended,
        };
        self.leave(node, number);
        match ended {
            Ok(()) => tracing::info!(node, "the agent's connection ended"),
            Err(error) => tracing::warn!(node, %error, "the agent's connection broke"),
        }
    }

    pub fn is_connected(&self, node: &str) -> bool {
        self.0.lock().nodes.contains_key(node)
    }

    /// A stream to `target` on `node`.
    pub async fn open(&self, node: &str, target: Target) -> Result<TunnelStream, OpenError> {
        let opener = self
            .0
            .lock()
            .nodes
            .get(node)
            .map(|(_, opener)| opener.clone());
        let opener = opener.ok_or_else(|| OpenError::NotConnected(node.to_owned()))?;
        let stream = timeout(ANSWER_TIME_MAX, open(&opener, target)).await;
        stream
            .unwrap_or_else(|slow| Err(io::Error::new(io::ErrorKind::TimedOut, slow.to_string())))
            .map_err(|error| describe(node, error))
    }

    fn enter(&self, node: &str, opener: Opener) -> u64 {
        let mut connected = self.0.lock();
        connected.next += 1;
        let number = connected.next;
        // The newest connection counts: an agent dials again when the one before is dead on its side.
        connected.nodes.insert(node.to_owned(), (number, opener));
        number
    }

    fn leave(&self, node: &str, number: u64) {
        let mut connected = self.0.lock();
        if connected
            .nodes
            .get(node)
            .is_some_and(|(held, _)| *held == number)
        {
            connected.nodes.remove(node);
        }
    }
}

async fn open(opener: &Opener, target: Target) -> io::Result<TunnelStream> {
    let mut stream = opener.open().await?;
    ask(&mut stream, target).await?;
    Ok(stream)
}

/// Ends when the agent stops answering.
async fn keep_alive(node: &str, opener: Opener) -> io::Result<()> {
    loop {
        sleep(PING_EVERY).await;
        match timeout(ANSWER_TIME_MAX, open(&opener, Target::Ping)).await {
            Ok(Ok(_answered)) => {}
            // All streams in use: the connection lives.
            Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                tracing::debug!(node, "no stream is free for a ping");
            }
            Ok(Err(error)) => return Err(error),
            Err(slow) => return Err(io::Error::new(io::ErrorKind::TimedOut, slow.to_string())),
        }
    }
}

fn describe(node: &str, error: io::Error) -> OpenError {
    let (node, why) = (node.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Busy { node, why },
        io::ErrorKind::ConnectionRefused => OpenError::Refused { node, why },
        _ => OpenError::Broken {
            node,
            source: error,
        },
    }
}

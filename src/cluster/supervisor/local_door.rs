//! A port of the loopback address that leads to whichever server answers: for tools on an agent's machine.
//!
//! Bytes are handed on as they are: whoever comes proves himself to the server, and the server to him.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use env::Shutdown;
use kube_client::Route;
use serving::Limits;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

const LIMITS: Limits = Limits {
    connections_max: 128,
    drain_time_max: Duration::ZERO,
};

/// Opens the port and serves it until the end is asked for.
pub(crate) async fn open(
    port: u16,
    route: Arc<dyn Route>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("--lb-server-port: listen on 127.0.0.1:{port}"))?;
    env::spawn(async move {
        let one = |stream| {
            let (route, shutdown) = (Arc::clone(&route), shutdown.clone());
            async move {
                tokio::select! {
                    biased;
                    () = shutdown.requested() => {}
                    () = hand_on(stream, &*route) => {}
                }
            }
        };
        let what = "the local port to the servers";
        serving::accept_each(listener, what, LIMITS, &shutdown, one).await;
    });
    Ok(())
}

async fn hand_on(mut client: TcpStream, route: &dyn Route) {
    // Which server it is, the route says.
    let mut server = match route.connect("", 0).await {
        Ok(server) => server,
        Err(error) => {
            tracing::debug!(%error, "no server is reached for a tool of this machine");
            return;
        }
    };
    if let Err(error) = copy_bidirectional(&mut client, &mut server).await {
        tracing::debug!(%error, "a connection through the local port broke");
    }
}

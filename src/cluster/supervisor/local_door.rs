//! A port of the loopback address that leads to whichever server answers: for tools on an agent's machine.
//!
//! Bytes are handed on as they are: whoever comes proves himself to the server, and the server to him.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use env::Shutdown;
use kube_client::Route;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at a time; more wait.
const CONNECTIONS_MAX: usize = 128;
/// A listener that cannot accept, for want of descriptors say, is tried again after this.
const ACCEPT_RETRY: std::time::Duration = std::time::Duration::from_millis(200);

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
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = serve(&listener, route) => {}
        }
    });
    Ok(())
}

async fn serve(listener: &TcpListener, route: Arc<dyn Route>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        match listener.accept().await {
            Ok((client, _peer)) => {
                let route = Arc::clone(&route);
                env::spawn(async move {
                    hand_on(client, &*route).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the local port to the servers does not accept a connection; it tries again");
                env::sleep(ACCEPT_RETRY).await;
            }
        }
    }
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

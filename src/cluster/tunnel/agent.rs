//! An agent's end: connects each stream to where it leads, and refuses what a server has no business with.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use env::timeout;
use ipnet::IpNet;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::compat::Compat;

use crate::multiplexer::{ByteStream, accepting};
use crate::target::{self, Target};

/// A pod that does not answer in this time is not reached.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// A server asks for a sign of life every 20 s; one that did not for so long is gone.
const QUIET_TIME_MAX: Duration = Duration::from_secs(65);
/// A server has this long to say what a stream is for.
const TARGET_TIME_MAX: Duration = Duration::from_secs(10);

/// What servers may reach on this node.
#[derive(Clone, Debug)]
pub struct Doors {
    /// Where this node's kubelet listens.
    pub kubelet: SocketAddr,
    /// This node's pods and the cluster's Services.
    pub ranges: Vec<IpNet>,
}

/// Serves what comes over `connection` until it ends or the server falls silent.
pub async fn serve(connection: impl ByteStream, doors: Arc<Doors>) -> io::Result<()> {
    let (heard, silence) = watch::channel(());
    let heard = Arc::new(heard);
    let accepting = accepting(connection, |stream| {
        heard.send_replace(());
        let doors = Arc::clone(&doors);
        env::spawn(async move {
            if let Err(error) = serve_stream(stream, &doors).await {
                tracing::debug!(%error, "a stream of the tunnel ended");
            }
        });
    });
    tokio::select! {
        biased;
        ended = accepting => ended,
        () = silent(silence) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the server has fallen silent"))
        }
    }
}

/// Ends when nothing was heard for too long.
async fn silent(mut heard: watch::Receiver<()>) {
    while let Ok(Ok(())) = timeout(QUIET_TIME_MAX, heard.changed()).await {}
}

async fn serve_stream(mut stream: Compat<yamux::Stream>, doors: &Doors) -> io::Result<()> {
    let asked = timeout(TARGET_TIME_MAX, target::read(&mut stream)).await;
    let address = match asked.map_err(io::Error::other)?? {
        Target::Ping => return target::accept(&mut stream).await,
        Target::Kubelet => doors.kubelet,
        Target::Address(address) if doors.lead_to(address.ip()) => address,
        Target::Address(address) => {
            let why = format!("{address} is neither a pod of this node nor a Service");
            return target::refuse(&mut stream, &why).await;
        }
    };
    let connected = timeout(CONNECT_TIME_MAX, TcpStream::connect(address)).await;
    let mut local = match connected {
        Ok(Ok(local)) => local,
        Ok(Err(error)) => {
            let why = format!("dial tcp {address}: connect: {error}");
            return target::refuse(&mut stream, &why).await;
        }
        Err(_slow) => {
            let why = format!("dial tcp {address}: i/o timeout");
            return target::refuse(&mut stream, &why).await;
        }
    };
    // Interactive streams send small pieces that must not wait for each other.
    local.set_nodelay(true)?;
    target::accept(&mut stream).await?;
    copy_bidirectional(&mut stream, &mut local).await?;
    Ok(())
}

impl Doors {
    fn lead_to(&self, address: IpAddr) -> bool {
        let outside = address.is_loopback() || address.is_unspecified() || address.is_multicast();
        !outside && self.ranges.iter().any(|range| range.contains(&address))
    }
}

//! The sockets. What the cluster knows is answered in place, without a task; only what others must be asked gets one.

use crate::error::Error;
use crate::forwarder::Forwarder;
use crate::message::{Reaction, Transport, react};
use crate::records::Records;
use crate::zone::Zone;
use env::{Clock, Shutdown};
use parking_lot::RwLock;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// The largest query that is read over UDP.
const QUERY_BYTES_MAX: usize = 4096;
/// Of one address. Nobody waits for questions at the end: who asked asks again.
const TCP_LIMITS: serving::Limits = serving::Limits {
    connections_max: 256,
    drain_time_max: Duration::ZERO,
};
const TCP_IDLE_MAX: Duration = Duration::from_secs(10);
/// How often a port that is free for UDP turns out to be taken for TCP before giving up.
const PORT_TRIES_MAX: u32 = 16;

/// What the cluster DNS needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Such as `cluster.local`.
    pub cluster_domain: String,
    /// Where to listen; port 0 is any port that is free for UDP and TCP. Give addresses, not the wildcard: an answer
    /// must come from the address that was asked.
    pub listen: Vec<SocketAddr>,
    /// The addresses of the cluster DNS Service, under which clients know this server.
    pub service_addresses: Vec<IpAddr>,
    /// The machine's resolvers, as `/etc/resolv.conf` has them; read again when it changes.
    pub resolv_conf: PathBuf,
}

/// The cluster DNS, listening.
pub struct Dns {
    shared: Arc<Shared>,
    sockets: Vec<(UdpSocket, TcpListener)>,
    local_addresses: Vec<SocketAddr>,
}

struct Shared {
    zone: Zone,
    records: Arc<RwLock<Records>>,
    forwarder: Forwarder,
}

impl Dns {
    /// Listens; questions wait in the sockets until `run`.
    pub async fn bind(config: Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let zone = Zone::new(&config.cluster_domain, config.service_addresses.clone())?;
        let mut sockets = Vec::new();
        let mut local_addresses = Vec::new();
        for address in &config.listen {
            let (udp, tcp) = bind_both(*address).await?;
            local_addresses.push(tcp.local_addr().map_err(|source| Error::Listen {
                address: *address,
                source,
            })?);
            sockets.push((udp, tcp));
        }
        let own = config.service_addresses.iter().copied();
        // A local resolver on another port of an address is somebody else.
        let own = own.chain(
            local_addresses
                .iter()
                .filter(|local| local.port() == 53)
                .map(SocketAddr::ip),
        );
        let forwarder = Forwarder::new(config.resolv_conf, own.collect(), clock);
        let records = Arc::default();
        Ok(Self {
            shared: Arc::new(Shared {
                zone,
                records,
                forwarder,
            }),
            sockets,
            local_addresses,
        })
    }

    /// Where it listens, with UDP and TCP on each.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local_addresses
    }

    /// What is answered; whoever feeds the server changes it while it runs.
    pub fn records(&self) -> Arc<RwLock<Records>> {
        Arc::clone(&self.shared.records)
    }

    /// Answers until the end is asked for.
    pub async fn run(self, shutdown: Shutdown) {
        let mut tasks = Vec::new();
        for (udp, tcp) in self.sockets {
            tasks.push(env::spawn(serve_udp(
                Arc::clone(&self.shared),
                Arc::new(udp),
                shutdown.clone(),
            )));
            tasks.push(env::spawn(serve_tcp(
                Arc::clone(&self.shared),
                tcp,
                shutdown.clone(),
            )));
        }
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the cluster DNS ended");
            }
        }
    }
}

/// The same port for both protocols.
async fn bind_both(address: SocketAddr) -> Result<(UdpSocket, TcpListener), Error> {
    let failed = |source| Error::Listen { address, source };
    for _try in 0..PORT_TRIES_MAX {
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        let port = tcp.local_addr().map_err(failed)?.port();
        match UdpSocket::bind(SocketAddr::new(address.ip(), port)).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() == 0 => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(Error::NoCommonPort(address))
}

async fn serve_udp(shared: Arc<Shared>, socket: Arc<UdpSocket>, shutdown: Shutdown) {
    let mut buffer = vec![0; QUERY_BYTES_MAX];
    loop {
        let received = tokio::select! {
            biased;
            () = shutdown.requested() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error here is that of an earlier answer, whose client is gone.
        let Ok((length, client)) = received else {
            continue;
        };
        match shared.react(&buffer[..length], Transport::Udp) {
            Reaction::Ignore => {}
            Reaction::Respond(response) => send(&socket, &response, client).await,
            Reaction::Forward(forward) => {
                let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
                env::spawn(async move {
                    let upstream = shared.forwarder.ask(&forward.name, forward.kind).await;
                    send(&socket, &forward.respond(upstream), client).await;
                });
            }
        }
    }
}

/// A response that cannot be sent is lost, as one on the way may be: the client asks again.
async fn send(socket: &UdpSocket, response: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(response, client).await {
        tracing::debug!(%error, %client, "a DNS response was not sent");
    }
}

async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener, shutdown: Shutdown) {
    let one = |stream| {
        let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
        async move {
            tokio::select! {
                biased;
                () = shutdown.requested() => {}
                _ended = serve_connection(&shared, stream) => {}
            }
        }
    };
    serving::accept_each(listener, "DNS", TCP_LIMITS, &shutdown, one).await;
}

/// One query after the other, each with its length before it, until the client leaves or is silent for too long.
async fn serve_connection(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    let silent = |_timed_out| io::Error::from(io::ErrorKind::TimedOut);
    loop {
        let length = env::timeout(TCP_IDLE_MAX, stream.read_u16())
            .await
            .map_err(silent)??;
        let mut query = vec![0; usize::from(length)];
        env::timeout(TCP_IDLE_MAX, stream.read_exact(&mut query))
            .await
            .map_err(silent)??;
        let response = match shared.react(&query, Transport::Tcp) {
            Reaction::Ignore => continue,
            Reaction::Respond(response) => response,
            Reaction::Forward(forward) => {
                let upstream = shared.forwarder.ask(&forward.name, forward.kind).await;
                forward.respond(upstream)
            }
        };
        let length =
            u16::try_from(response.len()).map_err(|_too_long| io::ErrorKind::InvalidData)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(response);
        env::timeout(TCP_IDLE_MAX, stream.write_all(&framed))
            .await
            .map_err(silent)??;
    }
}

impl Shared {
    fn react(&self, bytes: &[u8], transport: Transport) -> Reaction {
        react(&self.zone, &self.records.read(), bytes, transport)
    }
}

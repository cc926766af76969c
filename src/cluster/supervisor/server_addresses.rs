//! Where a server is reached, as the addresses of its machine change.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use config::ServerConfig;
use env::Shutdown;
use pod_network::{AddressRule, FollowedAddresses};
use rest::{Advertised, ApiServer};
use tokio::sync::watch;

use crate::node_network::NodeNetwork;

/// After a failure to write the endpoints.
const RETRY: Duration = Duration::from_secs(2);

/// The addresses of a server's machine, and which of them count.
#[derive(Clone, Debug)]
pub(crate) struct ServerAddresses {
    /// `--advertise-address`
    said: Option<IpAddr>,
    port: u16,
    has_node: bool,
    /// Primary first; empty on a machine with nothing but loopback and without a node.
    own: watch::Receiver<Vec<IpAddr>>,
    machine: watch::Receiver<Vec<IpAddr>>,
}

impl ServerAddresses {
    /// Those of the server's node, or without one of the machine.
    pub(crate) fn open(
        config: &ServerConfig,
        network: Option<&NodeNetwork>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let (own, machine) = match network {
            Some(network) => (network.addresses(), network.machine_addresses()),
            None => follow_machine(config, shutdown)?,
        };
        Ok(Self {
            said: config.advertise_address,
            port: config.https_listen_port,
            has_node: network.is_some(),
            own,
            machine,
        })
    }

    pub(crate) fn advertised(&self) -> Advertised {
        let own = || self.own.borrow().first().copied();
        let address = self.said.or_else(own);
        let address = address.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        Advertised {
            address: SocketAddr::new(address, self.port),
            // Who says an address may have reasons why the others are not for everybody.
            others: match self.said {
                Some(_) => Vec::new(),
                None => self.machine.borrow().clone(),
            },
        }
    }

    /// The address of the server's node, if it has one.
    pub(crate) fn node(&self) -> Option<IpAddr> {
        let own = self.own.borrow().first().copied();
        own.filter(|_address| self.has_node)
    }

    /// All addresses of the machine.
    pub(crate) fn all(&self) -> Vec<IpAddr> {
        let mut all = self.own.borrow().clone();
        all.extend(self.machine.borrow().iter());
        all
    }

    /// Returns when any of it may be another.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.own.changed() => {}
            Ok(()) = self.machine.changed() => {}
            // Nobody is left who could tell of a change.
            else => std::future::pending().await,
        }
    }
}

type Followed = (watch::Receiver<Vec<IpAddr>>, watch::Receiver<Vec<IpAddr>>);

fn follow_machine(config: &ServerConfig, shutdown: &Shutdown) -> anyhow::Result<Followed> {
    let rule = AddressRule {
        said: None,
        interface: None,
        cluster_cidrs: config.network.cluster_cidrs.clone(),
    };
    let addresses = rule
        .addresses(&[])
        .context("find the machine's addresses")?;
    let followed = FollowedAddresses::new(addresses);
    let receivers = (followed.node.subscribe(), followed.machine.subscribe());
    let shutdown = shutdown.clone();
    env::spawn(async move { rule.follow(&followed, &shutdown).await });
    Ok(receivers)
}

/// Keeps what the API says of where the server is, until the end is asked for.
pub(crate) async fn advertise(
    api: ApiServer,
    mut addresses: ServerAddresses,
    advertised: watch::Sender<Advertised>,
    mut living: Option<watch::Receiver<Vec<Advertised>>>,
    shutdown: Shutdown,
) {
    let mut is_written = true;
    loop {
        let now = addresses.advertised();
        if *advertised.borrow() != now {
            tracing::info!(address = %now.address, others = ?now.others, "the server is reached elsewhere");
            advertised.send_replace(now);
            is_written = false;
        }
        if !is_written {
            let done = api.advertise().await;
            is_written = done
                .inspect_err(|error| tracing::warn!(%error, "the endpoints of the Service kubernetes are not written yet"))
                .is_ok();
        }
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = addresses.changed() => {}
            () = another_server(&mut living) => is_written = false,
            () = env::sleep(RETRY), if !is_written => {}
        }
    }
}

/// Returns when another server of a shared store came, went, or moved.
async fn another_server(living: &mut Option<watch::Receiver<Vec<Advertised>>>) {
    let told = match living {
        Some(living) => living.changed().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending::<()>().await;
    }
}

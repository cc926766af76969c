//! A whole agent: a node that joins a cluster, keeps its certificates fresh, and is reached through the connection that it opens.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use bootstrap::DataDir;
use config::AgentConfig;
use env::{Basis, Shutdown, Timestamp};
use informer::Memory;
use joining::{
    AUTHORITIES_PATH, CONNECT_PATH, IdentityFolder, JoinClient, JoinFailure, NodeIdentity,
    SERVER_NAME, TUNNEL_PROTOCOL, join_request,
};
use kube_client::{
    Authorities, Client, ClientCertificate, ClientError, Credentials, Dialer, HttpConfig,
    HttpTransport, Method, Request, Route, Transport, Trust,
};
use pki::decode_pem;
use pod_network::Backend;
use tokio::sync::{Notify, watch};
use tunnel::{Doors, Link, Servers};

use crate::client_authorities::ClientAuthorities;
use crate::control_plane::Basics;
use crate::known_servers;
use crate::local_door;
use crate::machine_time::{DOUBT_PAUSE, MachineTime};
use crate::node::{ClusterFacts, DnsRole, Node, NodeClients};
use crate::node_memory;
use crate::node_network::{NodeNetwork, NodeNetworkSettings, Share};
use crate::peer_images::PeerCredentials;
use crate::served_certificate::ServedCertificate;
use crate::server::StartError;
use crate::server_choice::{AnyServer, judged};

const USER_AGENT: &str = concat!("combo-agent/", env!("CARGO_PKG_VERSION"));
const SERVERS_FILE: &str = "servers.json";
/// A server that is not reached yet is asked again after this, and then less often.
const JOIN_PAUSE_FIRST: Duration = Duration::from_secs(1);
const JOIN_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A renewal that failed is tried again after this, and then less often.
const RENEW_PAUSE_FIRST: Duration = Duration::from_secs(1);
const RENEW_PAUSE_MAX: Duration = Duration::from_secs(20);
/// Certificates that a server does not take are renewed this often: a server that refuses fresh ones as well has another reason.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);
/// A server that acknowledges nothing for so long is gone, or the way to it: watches, which ping every 20 s, then begin elsewhere.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Clocks can be set while one sleeps: dates are looked at again by then.
const RENEW_SLEEP_MAX: Duration = Duration::from_hours(12);

/// A running agent.
pub struct Agent {
    memory: Memory,
    time: MachineTime,
}

/// What an agent's parts share.
#[derive(Clone)]
struct Joined {
    config: AgentConfig,
    folder: IdentityFolder,
    servers: Servers,
    dialer: Dialer,
    node_certificate: Arc<ClientCertificate>,
    network_certificate: Arc<ClientCertificate>,
    serving: Arc<ServedCertificate>,
    /// Who signs servers.
    authorities: Arc<Authorities>,
    /// Who signs the clients of the kubelet's server.
    client_authorities: Arc<ClientAuthorities>,
    /// A server has other authorities than this node knows, or does not take its certificates.
    outdated: Arc<Notify>,
    memory: Memory,
    basics: Basics,
}

impl Agent {
    /// Joins if the node has not joined, and starts it. What was started ends when `shutdown` says so; then call
    /// [`Agent::stopped`].
    pub async fn start(config: &AgentConfig, shutdown: Shutdown) -> Result<Self, StartError> {
        let data_dir = DataDir::prepare(&config.data_dir)?;
        let basics = Basics::open(&data_dir, shutdown);
        tracing::info!(data_dir = %config.data_dir.display(), instance = data_dir.instance(), "the data folder is ready");
        let folder = IdentityFolder::at(&data_dir.agent());
        let identity = match folder.load(&config.node.name)? {
            Some(identity) => identity,
            None => first_join(config, &folder, &basics).await?,
        };
        let memory =
            node_memory::open(&data_dir, &identity.node, &identity.key, basics.rng.clone())?;
        let servers_file = data_dir.agent().join(SERVERS_FILE);
        let servers = Servers::open(&servers_file, &config.server.to_string());
        let certificate = |chain: &str| {
            ClientCertificate::from_pem(chain.as_bytes(), identity.key.to_pem().as_bytes())
        };
        let (cluster_cidrs, service_cidrs) = (
            &identity.settings.cluster_cidrs[..],
            &identity.settings.service_cidrs[..],
        );
        let joined = Joined {
            config: config.clone(),
            folder,
            servers,
            dialer: config
                .dialer
                .clone()
                .straight_to(&[cluster_cidrs, service_cidrs].concat()),
            node_certificate: certificate(&identity.client_certificate)?,
            network_certificate: certificate(&identity.network_certificate)?,
            serving: ServedCertificate::new(&identity.serving_certificate, &identity.key)?,
            authorities: Authorities::from_pem(identity.server_authorities.as_bytes())?,
            client_authorities: ClientAuthorities::new(
                &decode_pem("CERTIFICATE", &identity.client_authorities),
                basics.clock.clone(),
            )?,
            outdated: Arc::default(),
            memory: memory.clone(),
            basics,
        };
        let time = joined.basics.time.clone();
        if let Some(port) = config.local_port {
            let shutdown = joined.basics.shutdown.clone();
            // What comes in there may leave unread what it asked for, for as long as it likes.
            let way = joined.any_server(joined.dialer.clone());
            local_door::open(port, Arc::new(way), shutdown).await?;
        }
        let addresses = joined.start_node(&data_dir, &identity).await?;
        tracing::info!(node = identity.node, "the node is running");
        env::spawn(joined.keep_fresh(identity, addresses));
        Ok(Self { memory, time })
    }

    /// Waits for what must end well: what the node remembers, and the record of the time.
    pub async fn stopped(self) {
        self.time.record();
        self.memory.records().flush().await;
    }
}

/// Joins for the first time: what a person has to mend ends it, a server that is not there yet does not.
async fn first_join(
    config: &AgentConfig,
    folder: &IdentityFolder,
    basics: &Basics,
) -> anyhow::Result<NodeIdentity> {
    let client = JoinClient {
        server: config.server.to_string(),
        route: Arc::new(config.dialer.clone()),
        clock: basics.clock.clone(),
    };
    let mut pause = JOIN_PAUSE_FIRST;
    loop {
        match try_to_join(config, folder, &client, &basics.time).await {
            Ok(identity) => {
                tracing::info!(node = identity.node, server = client.server, "joined");
                return Ok(identity);
            }
            Err(error) if error.downcast_ref().is_some_and(JoinFailure::may_pass) => {
                tracing::warn!("{error:#}; trying again in {} s", pause.as_secs());
            }
            Err(error) => return Err(error.context("join the cluster")),
        }
        tokio::select! {
            biased;
            () = basics.shutdown.requested() => anyhow::bail!("asked to stop before the node joined"),
            () = env::sleep(pause) => {}
        }
        pause = (pause * 2).min(JOIN_PAUSE_MAX);
    }
}

async fn try_to_join(
    config: &AgentConfig,
    folder: &IdentityFolder,
    client: &JoinClient,
    time: &MachineTime,
) -> anyhow::Result<NodeIdentity> {
    let token = config.token.as_ref().context(
        "this machine is no node yet: give it the token with --token or --token-file; it stands in server/agent-token in the server's data folder",
    )?;
    let authorities = client.authorities(token).await?;
    let request = join_request(
        &config.node.name,
        &addresses(config),
        &folder.key()?,
        config.replaces,
    )?;
    let answer = client.join(&authorities, Some(token), &request).await?;
    time.learn(Timestamp::from_unix_seconds(answer.server_time));
    Ok(folder.keep(&config.node.name, &answer)?)
}

/// The addresses that this machine says it has; the server signs those it sees.
fn addresses(config: &AgentConfig) -> Vec<IpAddr> {
    match config.node.address {
        Some(said) => vec![said],
        None => pod_network::node_addresses().unwrap_or_default(),
    }
}

impl Joined {
    /// Starts the node; what this returns are its addresses as they change.
    async fn start_node(
        &self,
        data_dir: &DataDir,
        identity: &NodeIdentity,
    ) -> anyhow::Result<watch::Receiver<Vec<IpAddr>>> {
        let settings = &identity.settings;
        let backend: Backend = settings
            .overlay
            .parse()
            .map_err(|error| anyhow::anyhow!("the cluster's overlay: {error}"))?;
        let network = NodeNetwork::open(
            NodeNetworkSettings {
                node_name: identity.node.clone(),
                instance: data_dir.instance(),
                folder: data_dir.agent(),
                said_address: self.config.node.address,
                interface: self.config.node.interface.clone(),
                cluster_cidrs: settings.cluster_cidrs.clone(),
                service_cidrs: settings.service_cidrs.clone(),
                backend,
                checksums: self.config.node.checksums,
                share: Share::Given {
                    asked_for: Vec::new(),
                },
            },
            &*self.basics.rng,
        )?;
        let seeing = self.client(&self.network_certificate)?;
        env::spawn(self.clone().keep_time(Arc::clone(seeing.transport())));
        let acting = self.client(&self.node_certificate)?;
        let clients = NodeClients::new(acting, seeing, &self.memory, &self.basics);
        self.keep_tunnels(identity, &network);
        let (servers, shutdown) = (self.servers.clone(), self.basics.shutdown.clone());
        let watching = clients.watching.clone();
        env::spawn(async move { known_servers::follow(&watching, &servers, &shutdown).await });
        let wired = Node {
            node: &self.config.node,
            cluster: ClusterFacts {
                service_cidrs: settings.service_cidrs.clone(),
                cluster_cidrs: settings.cluster_cidrs.clone(),
                cluster_domain: settings.cluster_domain.clone(),
                cluster_dns: settings.cluster_dns.clone(),
                dns: if settings.dns_disabled {
                    DnsRole::Silent
                } else {
                    DnsRole::Answers
                },
                enforces_network_policies: !settings.network_policy_disabled,
            },
            data_dir,
            clients,
            certificate: self.serving.clone(),
            client_authorities: self.client_authorities.clone(),
            sharing: settings.embedded_registry.then(|| PeerCredentials {
                certificate: self.node_certificate.clone(),
                trust: Trust::Current(self.authorities.clone()),
            }),
            memory: &self.memory,
            basics: &self.basics,
        };
        let addresses = network.addresses();
        wired.start(network).await?;
        Ok(addresses)
    }

    /// The way to whichever server answers.
    fn any_server(&self, dialer: Dialer) -> AnyServer {
        AnyServer {
            servers: self.servers.clone(),
            dialer,
        }
    }

    /// For connections that both sides always read.
    fn watchful_dialer(&self) -> Dialer {
        self.dialer.clone().giving_up_after(SILENCE_MAX)
    }

    fn client(&self, certificate: &Arc<ClientCertificate>) -> anyhow::Result<Client> {
        let transport = HttpTransport::new(&HttpConfig {
            server: format!("https://{SERVER_NAME}"),
            trust: Trust::Current(self.authorities.clone()),
            server_name: Some(SERVER_NAME.to_owned()),
            credentials: Credentials::Certificate(certificate.clone()),
            user_agent: USER_AGENT.to_owned(),
            route: Arc::new(self.any_server(self.watchful_dialer())),
            clock: self.basics.clock.clone(),
        })?;
        Ok(Client::new(judged(
            transport,
            &self.servers,
            self.outdated.clone(),
        )))
    }

    /// Servers reach this node through the connections that it keeps.
    fn keep_tunnels(&self, identity: &NodeIdentity, network: &NodeNetwork) {
        let link = TunnelLink(self.clone());
        let mut ranges = identity.settings.service_cidrs.clone();
        // Other nodes' pods are reached by their own agents.
        let pods = network.pods.pod_cidrs();
        let own = pods.borrow().clone();
        ranges.extend(if own.is_empty() {
            identity.settings.cluster_cidrs.clone()
        } else {
            own
        });
        let doors = Doors {
            kubelet: SocketAddr::from(([127, 0, 0, 1], self.config.node.kubelet_port)),
            ranges,
        };
        env::spawn(tunnel::keep(
            self.servers.clone(),
            Arc::new(link),
            Arc::new(doors),
            self.basics.rng.clone(),
            self.basics.shutdown.clone(),
        ));
    }

    /// Renews the node's certificates when a third of their life is left, and when the node has another address or servers have
    /// other authorities, for as long as the agent runs.
    async fn keep_fresh(
        self,
        mut identity: NodeIdentity,
        mut addresses: watch::Receiver<Vec<IpAddr>>,
    ) {
        // A server signs the address that it sees, which need not be the node's own: each is asked for once.
        let mut asked_for = Vec::new();
        let mut pause = RENEW_PAUSE_FIRST;
        let mut is_outdated = false;
        let mut quiet_until = Duration::ZERO;
        let mut dates = self.basics.time.changes();
        loop {
            let now = addresses.borrow_and_update().clone();
            let is_elsewhere = now != asked_for
                && now
                    .first()
                    .is_some_and(|primary| !identity.serves(*primary));
            let left = identity.renew_after(self.basics.clock.now());
            let mut wait = left.min(RENEW_SLEEP_MAX);
            if is_elsewhere || is_outdated || left.is_zero() {
                match self.renew(&identity, &now).await {
                    Ok(renewed) => {
                        identity = renewed;
                        asked_for = now;
                        is_outdated = false;
                        quiet_until = self.basics.clock.monotonic() + REFUSED_PAUSE;
                        pause = RENEW_PAUSE_FIRST;
                        // What it brought is looked at, but a life too short for any pause does not keep the node busy.
                        wait = pause;
                    }
                    Err(error) => {
                        tracing::warn!("the node's certificates are not renewed yet: {error:#}");
                        wait = pause;
                        pause = (pause * 2).min(RENEW_PAUSE_MAX);
                    }
                }
            }
            tokio::select! {
                biased;
                () = self.basics.shutdown.requested() => return,
                Ok(()) = addresses.changed() => pause = RENEW_PAUSE_FIRST,
                () = self.is_told_outdated(quiet_until) => is_outdated = true,
                // Whether it is time to renew is another question now.
                Ok(()) = dates.changed() => pause = RENEW_PAUSE_FIRST,
                () = env::sleep(wait) => {}
            }
        }
    }

    /// Waits until a server has other authorities or refuses this node, and it is not only just that the certificates were renewed.
    async fn is_told_outdated(&self, quiet_until: Duration) {
        env::sleep(quiet_until.saturating_sub(self.basics.clock.monotonic())).await;
        self.outdated.notified().await;
    }

    fn join_client(&self, server: &str, route: Arc<dyn Route>) -> JoinClient {
        JoinClient {
            server: server.to_owned(),
            route,
            clock: self.basics.clock.clone(),
        }
    }

    /// Learns the time of a server that proves itself.
    async fn ask_time(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        let time = joining::server_time(transport).await?;
        self.basics.time.learn(time);
        Ok(())
    }

    /// Asks for the time for as long as the own clock is in doubt.
    async fn keep_time(self, transport: Arc<dyn Transport>) {
        let mut dates = self.basics.time.changes();
        loop {
            let again = match self.basics.time.basis() {
                Basis::Wall => RENEW_SLEEP_MAX,
                Basis::LastKnown | Basis::Told => DOUBT_PAUSE,
            };
            tokio::select! {
                biased;
                () = self.basics.shutdown.requested() => return,
                _changed = dates.changed() => {}
                () = env::sleep(again) => {}
            }
            if let Err(error) = self.ask_time(&*transport).await {
                tracing::debug!(%error, "the server says no time");
            }
        }
    }

    async fn renew(
        &self,
        identity: &NodeIdentity,
        addresses: &[IpAddr],
    ) -> anyhow::Result<NodeIdentity> {
        let client = self.join_client(
            &self.config.server.to_string(),
            Arc::new(self.any_server(self.dialer.clone())),
        );
        let request = join_request(&identity.node, addresses, &identity.key, false)?;
        // The signature of the request proves the key that the name is bound to: no token is needed.
        let answer = client
            .join(&identity.server_authorities, None, &request)
            .await?;
        let renewed = self.folder.keep(&identity.node, &answer)?;
        self.basics
            .time
            .learn(Timestamp::from_unix_seconds(answer.server_time));
        self.basics.time.record();
        let key = renewed.key.to_pem();
        self.node_certificate
            .replace(renewed.client_certificate.as_bytes(), key.as_bytes())?;
        self.network_certificate
            .replace(renewed.network_certificate.as_bytes(), key.as_bytes())?;
        self.serving
            .replace(&renewed.serving_certificate, &renewed.key)?;
        self.authorities
            .replace(renewed.server_authorities.as_bytes())?;
        let client_authorities = decode_pem("CERTIFICATE", &renewed.client_authorities);
        self.client_authorities.replace(&client_authorities)?;
        tracing::info!(node = renewed.node, "the node's certificates are renewed");
        Ok(renewed)
    }
}

/// Opens tunnels.
struct TunnelLink(Joined);

impl TunnelLink {
    /// Looks whether the server has other authorities than it had: its next restart may be the one after which it shows only those.
    async fn compare_authorities(&self, transport: &HttpTransport) {
        let request = Request {
            method: Method::Get,
            path: AUTHORITIES_PATH.to_owned(),
            content_type: "",
            body: Vec::new().into(),
        };
        match transport.call(request).await {
            Ok(answer) if answer.code == 200 => {
                if answer.body != self.0.authorities.pem() {
                    self.0.outdated.notify_one();
                }
            }
            Ok(answer) => tracing::debug!(answer.code, "the server shows no authorities"),
            Err(error) => tracing::debug!(%error, "the server shows no authorities"),
        }
    }

    /// A server that answers who says no name, and not this node, does not take the node's certificates, or the node not its: one of both
    /// has another time than when they were made. They are made anew, by proof of the node's key.
    async fn look_who_is_refused(&self, transport: &HttpTransport, server: &str) {
        let joined = &self.0;
        let anybody = joined.join_client(server, Arc::new(joined.dialer.clone()));
        if joined.ask_time(transport).await.is_err() && anybody.server_time().await.is_ok() {
            tracing::warn!(
                server,
                "the server answers, and this node's certificates and its own do not fit: they are made anew"
            );
            joined.outdated.notify_one();
        }
    }
}

#[async_trait]
impl Link for TunnelLink {
    async fn connect(&self, server: &str) -> io::Result<Box<dyn tunnel::ByteStream>> {
        let joined = &self.0;
        let transport = HttpTransport::new(&HttpConfig {
            server: format!("https://{server}"),
            trust: Trust::Current(joined.authorities.clone()),
            server_name: Some(SERVER_NAME.to_owned()),
            credentials: Credentials::Certificate(joined.node_certificate.clone()),
            user_agent: USER_AGENT.to_owned(),
            route: Arc::new(joined.watchful_dialer()),
            clock: joined.basics.clock.clone(),
        })
        .map_err(io::Error::other)?;
        let headers = [("connection", "Upgrade"), ("upgrade", TUNNEL_PROTOCOL)];
        let connected = transport.connect(Method::Get, CONNECT_PATH, &headers).await;
        match connected {
            Ok((_headers, connection)) => {
                self.compare_authorities(&transport).await;
                if let Err(error) = joined.ask_time(&transport).await {
                    tracing::debug!(%error, "the server says no time");
                }
                Ok(Box::new(connection))
            }
            Err(error) => {
                self.look_who_is_refused(&transport, server).await;
                Err(io::Error::other(error))
            }
        }
    }
}

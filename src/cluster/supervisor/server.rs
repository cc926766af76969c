//! A whole server: prepared, started in order, stopped in reverse.

use std::sync::Arc;

use anyhow::Context as _;
use bootstrap::{Credentials, DataDir, Said, SaidTokens, ServingNames, kubeconfig};
use config::{BuiltIn, NodeConfig, ServerConfig};
use env::Shutdown;
use informer::{Factory, Memory};
use joining::{ClusterSettings, JoinService, NETWORK_USER, NodeSigner};
use kube_client::Trust;
use linux::AtomicFile;
use rest::{Advertised, ApiServer};
use sqlite::SealingKeys;
use tokio::sync::watch;

use crate::client_authorities::ClientAuthorities;
use crate::components::{
    Leading, client_as, masters_client, start_add_ons, start_control, start_custom_resources,
    start_dns_service,
};
use crate::control_plane::{Basics, ControlPlane, Provisions, open_store, token_issuers};
use crate::datastore::Datastore;
use crate::etcd_listener;
use crate::living_servers::{self, LivingServers};
use crate::machine_time::MachineTime;
use crate::names::serving_names;
use crate::node::{ClusterFacts, DnsRole, Node, NodeClients, network_settings};
use crate::node_memory;
use crate::node_network::NodeNetwork;
use crate::node_role;
use crate::peer_images::PeerCredentials;
use crate::renewal::Renewal;
use crate::scheduled_snapshots;
use crate::served_certificate::ServedCertificate;
use crate::server_addresses::{self, ServerAddresses};
use crate::store::Store;
use crate::upkeep::OpenedStore;

/// Why a server did not start, with all its causes.
pub type StartError = anyhow::Error;

/// A running server.
pub struct Server {
    control_plane: ControlPlane,
    /// Of its own node, if it has one.
    memory: Option<Memory>,
    time: MachineTime,
}

impl Server {
    /// Starts everything that `config` asks for. What was started ends when `shutdown` says so; then call [`Server::stopped`].
    pub async fn start(
        config: &ServerConfig,
        host_name: &str,
        shutdown: Shutdown,
    ) -> Result<Self, StartError> {
        let data_dir = DataDir::prepare(&config.data_dir)?;
        let basics = Basics::open(&data_dir, shutdown);
        tracing::info!(data_dir = %config.data_dir.display(), instance = data_dir.instance(), "the data folder is ready");
        let network = open_network(config, &data_dir, &basics)?;
        let addresses = ServerAddresses::open(config, network.as_ref(), &basics.shutdown)?;
        let (advertised, is_advertised) = watch::channel(addresses.advertised());
        let names = serving_names(config, &addresses, host_name);
        let (credentials, store) = open(config, &data_dir, &names, &basics).await?;
        write_kubeconfig(config, &credentials)?;
        let sharing = Sharing::begin(&store, config, &data_dir, host_name, &basics).await?;
        let living = sharing.as_ref().map(|sharing| sharing.living.clone());
        let provisions = Provisions {
            store: store.clone(),
            credentials: &credentials,
            tokens: token_issuers(config, &data_dir)?,
            advertised: is_advertised.clone(),
            living: living.clone(),
        };
        let control_plane = ControlPlane::start(config, provisions, &basics).await?;
        tracing::info!(
            port = config.https_listen_port,
            "the API server is listening"
        );
        if let Some(sharing) = &sharing {
            sharing.say(&store, is_advertised.clone(), &basics);
        }
        if let Some(address) = config.etcd_listen {
            let parts = (&control_plane, &credentials);
            etcd_listener::open(address, &data_dir, parts, &basics).await?;
        }
        control_plane
            .api
            .bootstrap()
            .await
            .context("make what every cluster has")?;
        let started = Started {
            config,
            data_dir: &data_dir,
            names: &names,
            addresses: &addresses,
            host_name,
            basics: &basics,
            sharing,
        };
        started.start_components(&control_plane.api, &credentials, store, advertised)?;
        started
            .open_joining(&control_plane, &credentials, is_advertised)
            .await?;
        let (mut serving_kubelet, mut memory) = (None, None);
        if let (Some(node), Some(network)) = (&config.node, network) {
            let (certificate, remembered) = started
                .start_node(&control_plane, &credentials, node, network)
                .await?;
            (serving_kubelet, memory) = (Some(certificate), Some(remembered));
        } else {
            let (time, shutdown) = (basics.time.clone(), basics.shutdown.clone());
            env::spawn(time.watch(Box::new(|_logged| {}), shutdown));
        }
        started.keep_fresh(&control_plane, &credentials, serving_kubelet);
        Ok(Self {
            control_plane,
            memory,
            time: basics.time,
        })
    }

    /// Waits for what must end well: the store, what the node remembers, and the record of the time.
    pub async fn stopped(self) {
        self.time.record();
        if let Some(memory) = &self.memory {
            memory.records().flush().await;
        }
        if let Err(error) = self.control_plane.store.close().await {
            tracing::error!(%error, "the store did not close well");
        }
    }
}

fn open_network(
    config: &ServerConfig,
    data_dir: &DataDir,
    basics: &Basics,
) -> anyhow::Result<Option<NodeNetwork>> {
    let settings = config
        .node
        .as_ref()
        .map(|node| network_settings(config, node, data_dir));
    settings
        .map(|settings| NodeNetwork::open(settings, &*basics.rng))
        .transpose()
}

/// What a server's start is made from, for the steps behind the API.
struct Started<'a> {
    config: &'a ServerConfig,
    data_dir: &'a DataDir,
    names: &'a ServingNames,
    addresses: &'a ServerAddresses,
    host_name: &'a str,
    basics: &'a Basics,
    /// `None`: there is no other server.
    sharing: Option<Sharing>,
}

impl Started<'_> {
    /// What works through the API alone.
    fn start_components(
        &self,
        api: &ApiServer,
        credentials: &Credentials,
        store: Store,
        advertised: watch::Sender<Advertised>,
    ) -> anyhow::Result<()> {
        let (config, basics) = (self.config, self.basics);
        let living = self.sharing.as_ref().map(|sharing| sharing.living.clone());
        env::spawn(server_addresses::advertise(
            api.clone(),
            self.addresses.clone(),
            advertised,
            living,
            basics.shutdown.clone(),
        ));
        if let Store::Own(opened) = store {
            let parts = (api, self.data_dir);
            tend_store(config, self.host_name, opened, parts, basics)?;
        }
        let leading = match &self.sharing {
            None => Leading::Alone,
            Some(sharing) => Leading::Elected {
                identity: format!("{}_{}", sharing.name, basics.rng.uuid()),
            },
        };
        let owner = self.sharing.as_ref().map(|sharing| sharing.name.clone());
        start_custom_resources(api, basics);
        start_control(api, config, credentials, &leading, basics);
        start_add_ons(api, self.data_dir, owner, basics);
        start_dns_service(api, config, basics);
        Ok(())
    }

    /// From here on nodes can join, and their pods are found.
    async fn open_joining(
        &self,
        control_plane: &ControlPlane,
        credentials: &Credentials,
        advertised: watch::Receiver<Advertised>,
    ) -> anyhow::Result<()> {
        let client = masters_client(&control_plane.api);
        let living = self.sharing.as_ref().map(|sharing| sharing.living.clone());
        let service = JoinService::new(joining::Parts {
            client: client.clone(),
            tokens: self.data_dir.tokens(),
            signer: NodeSigner {
                clients: credentials.client_authority.clone(),
                servers: credentials.server_authority.clone(),
                life: self.config.certificate_life,
            },
            reserved_names: self.names.api_server.dns_names.clone(),
            settings: settings(self.config),
            servers: Arc::new(move || servers(&advertised, living.as_ref())),
            clock: self.basics.clock.clone(),
            rng: self.basics.rng.clone(),
        });
        if let (Some(node), Some(identity)) = (&self.config.node, &credentials.kubelet_server) {
            service
                .bind_own(&node.name, &identity.key.public_key_info())
                .await
                .context("record the key of the server's own node")?;
        }
        let factory = Factory::new(client, self.basics.rng.clone());
        control_plane
            .dialer
            .follow(factory.all::<k8s_openapi::api::core::v1::Node>());
        control_plane.join_paths.open(service);
        Ok(())
    }

    async fn start_node(
        &self,
        control_plane: &ControlPlane,
        credentials: &Credentials,
        node: &NodeConfig,
        network: NodeNetwork,
    ) -> anyhow::Result<(Arc<ServedCertificate>, Memory)> {
        let api = &control_plane.api;
        let identity = credentials
            .kubelet_server
            .as_ref()
            .context("there is no kubelet certificate")?;
        let certificate = ServedCertificate::new(&identity.certificate_pem, &identity.key)?;
        let memory = node_memory::open(
            self.data_dir,
            &node.name,
            &identity.key,
            self.basics.rng.clone(),
        )?;
        let wired = Node {
            node,
            cluster: cluster_facts(self.config),
            data_dir: self.data_dir,
            clients: NodeClients::new(
                client_as(api, &format!("system:node:{}", node.name)),
                client_as(api, NETWORK_USER),
                &memory,
                self.basics,
            ),
            certificate: certificate.clone(),
            client_authorities: ClientAuthorities::new(
                &credentials.client_authority.trusted_der(),
                self.basics.clock.clone(),
            )?,
            sharing: self.config.shares_images.then(|| PeerCredentials {
                certificate: control_plane.kubelet_client.clone(),
                trust: Trust::Authorities(credentials.server_authority.trusted_pem().into()),
            }),
            memory: &memory,
            basics: self.basics,
        };
        wired.start(network).await?;
        node_role::keep(api, &node.name, self.basics);
        tracing::info!(node = node.name, "the node is running");
        Ok((certificate, memory))
    }

    /// Renews the server's certificates in this process before they end.
    fn keep_fresh(
        &self,
        control_plane: &ControlPlane,
        credentials: &Credentials,
        serving_kubelet: Option<Arc<ServedCertificate>>,
    ) {
        let renewal = Renewal {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            host_name: self.host_name.to_owned(),
            addresses: self.addresses.clone(),
            basics: self.basics.clone(),
            api_server: control_plane.serving.clone(),
            kubelet_client: control_plane.kubelet_client.clone(),
            kubelet_server: serving_kubelet,
        };
        env::spawn(renewal.run(credentials.clone()));
    }
}

/// What a server has to do with the others of a shared store.
struct Sharing {
    /// Names this server among them, the same at every start.
    name: String,
    living: watch::Receiver<Vec<Advertised>>,
}

impl Sharing {
    /// `None`: the store is this server's own.
    async fn begin(
        store: &Store,
        config: &ServerConfig,
        data_dir: &DataDir,
        host_name: &str,
        basics: &Basics,
    ) -> anyhow::Result<Option<Self>> {
        let Store::Shared(kv) = store else {
            return Ok(None);
        };
        let first = living_servers::living(&**kv)
            .await
            .context("find the other servers")?;
        let (sender, living) = watch::channel(first);
        let shutdown = basics.shutdown.clone();
        env::spawn(living_servers::follow(store.kv(), sender, shutdown));
        let node = config.node.as_ref().map_or(host_name, |node| &node.name);
        Ok(Some(Self {
            name: format!("{node}-{}", data_dir.instance()),
            living,
        }))
    }

    /// Tells the others where this server is, from now on.
    fn say(&self, store: &Store, advertised: watch::Receiver<Advertised>, basics: &Basics) {
        let server = LivingServers {
            kv: store.kv(),
            name: self.name.clone(),
            advertised,
            shutdown: basics.shutdown.clone(),
        };
        env::spawn(server.say());
    }
}

/// All servers as `host:port`, this one first.
fn servers(
    own: &watch::Receiver<Advertised>,
    living: Option<&watch::Receiver<Vec<Advertised>>>,
) -> Vec<String> {
    let own = own.borrow().address;
    let mut all = vec![own.to_string()];
    if let Some(living) = living {
        let others = living.borrow();
        let others = others.iter().map(|server| server.address);
        all.extend(
            others
                .filter(|other| *other != own)
                .map(|other| other.to_string()),
        );
    }
    all
}

/// What a server proves itself with, and where its cluster is. Servers of a shared store have the same keys before anything is made with them.
async fn open(
    config: &ServerConfig,
    data_dir: &DataDir,
    names: &ServingNames,
    basics: &Basics,
) -> anyhow::Result<(Credentials, Store)> {
    let datastore = Datastore::of(config, data_dir, &*basics.rng)?;
    let mut said = said(config);
    if let Some(datastore) = &datastore {
        said.tokens.server = Some(&datastore.password);
    }
    let means = (&*basics.clock, &*basics.rng);
    let make = || {
        bootstrap::succeed(data_dir, means)?;
        Credentials::load_or_make(data_dir, names, &said, means)
    };
    let Some(datastore) = &datastore else {
        let credentials = make()?;
        let means = (&basics.clock, &basics.rng);
        let opened = open_store(data_dir, config.store_bytes_max, means)?;
        return Ok((credentials, Store::Own(opened)));
    };
    let sealing_keys =
        || SealingKeys::load_or_create(&data_dir.encryption_key(), basics.rng.clone());
    let make_all = || {
        make()?;
        token_issuers(config, data_dir)?;
        sealing_keys()?;
        anyhow::Ok(())
    };
    datastore.share_keys(data_dir, basics, make_all).await?;
    let credentials = make()?;
    let store = datastore.open_store(sealing_keys()?, basics).await?;
    Ok((credentials, Store::Shared(store)))
}

fn cluster_facts(config: &ServerConfig) -> ClusterFacts {
    ClusterFacts {
        service_cidrs: config.network.service_cidrs.clone(),
        cluster_cidrs: config.network.cluster_cidrs.clone(),
        cluster_domain: config.cluster_domain.clone(),
        cluster_dns: vec![config.cluster_dns],
        dns: if config.disabled.contains(&BuiltIn::Dns) {
            DnsRole::Silent
        } else {
            DnsRole::Answers
        },
        enforces_network_policies: config.enforces_network_policies,
    }
}

/// What a store needs beside those who use it.
fn tend_store(
    config: &ServerConfig,
    host_name: &str,
    opened: OpenedStore,
    (api, data_dir): (&rest::ApiServer, &DataDir),
    basics: &Basics,
) -> anyhow::Result<()> {
    api.add_metrics(Arc::new(opened.clone()));
    let plan = config.snapshots.as_ref();
    let plan = plan.map(|config| scheduled_snapshots::plan(config, data_dir));
    opened
        .clone()
        .serve(plan, data_dir, basics.shutdown.clone())?;
    env::spawn(opened.finish_rotation());
    if let Some(snapshots) = &config.snapshots {
        let node = config.node.as_ref().map_or(host_name, |node| &node.name);
        env::spawn(scheduled_snapshots::run(
            snapshots.clone(),
            node.to_owned(),
            data_dir.clone(),
            basics.clone(),
        ));
    }
    Ok(())
}

/// What somebody chose about credentials.
pub(crate) fn said(config: &ServerConfig) -> Said<'_> {
    Said {
        tokens: SaidTokens {
            server: config.token.as_deref(),
            agent: config.agent_token.as_deref(),
        },
        certificate_life: config.certificate_life,
    }
}

/// What nodes that join are told.
fn settings(config: &ServerConfig) -> ClusterSettings {
    ClusterSettings {
        cluster_cidrs: config.network.cluster_cidrs.clone(),
        service_cidrs: config.network.service_cidrs.clone(),
        cluster_dns: vec![config.cluster_dns],
        cluster_domain: config.cluster_domain.clone(),
        certificate_seconds: config.certificate_life.as_secs(),
        overlay: config.network.backend.to_string(),
        dns_disabled: config.disabled.contains(&BuiltIn::Dns),
        network_policy_disabled: !config.enforces_network_policies,
        embedded_registry: config.shares_images,
    }
}

pub(crate) fn write_kubeconfig(
    config: &ServerConfig,
    credentials: &Credentials,
) -> anyhow::Result<()> {
    let server = format!("https://127.0.0.1:{}", config.https_listen_port);
    let text = kubeconfig(
        &server,
        &credentials.server_authority.root_pem(),
        &credentials.administrator,
    );
    if let Some(folder) = config.kubeconfig.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("make the folder {}", folder.display()))?;
    }
    AtomicFile::with_mode(&config.kubeconfig, config.kubeconfig_mode)
        .write(text.as_bytes())
        .with_context(|| format!("write the kubeconfig {}", config.kubeconfig.display()))?;
    tracing::info!(kubeconfig = %config.kubeconfig.display(), "the administrator's kubeconfig is written");
    Ok(())
}

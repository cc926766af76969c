//! A node, in a server's process or an agent's: network, runtime, kubelet.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bootstrap::DataDir;
use cni::CniNetwork;
use config::{NodeConfig, ServerConfig};
use containers::{LogLimits, Runtime, RuntimeOptions};
use cri::{ImageService, RuntimeService};
use images::{DefaultEndpoint, ImageStore, LocalImageService, PullSettings};
use informer::{Factory, Memory};
use ipnet::IpNet;
use kube_client::Client;
use kubelet::{ApiAuthorizer, Capacity, Kubelet, KubeletServer, Parts, ServerParts};
use network_policy::NodePods;
use pod_network::{AttachedPod, Backend, PodNetwork};
use rustls::server::ResolvesServerCert;
use service_proxy::{NodeFacts, ServiceProxy};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::client_authorities::ClientAuthorities;
use crate::cluster_dns::NodeDns;
use crate::control_groups;
use crate::control_plane::Basics;
use crate::keep_running::keep_running;
use crate::machine_time::ClockNews;
use crate::network_policies;
use crate::node_network::{NodeNetwork, NodeNetworkParts, NodeNetworkSettings, Share};
use crate::peer_images::{NodePeers, PeerCredentials};
use crate::sandbox_network::{Connector, PodSandboxNetwork};

/// Below this the node counts as short of disk.
const DISK_AVAILABLE_PERCENT: u64 = 5;
/// In a data folder: where a node answers commands that are typed on it.
const SOCKET: &str = "agent/combo.sock";

/// Where the node of a data folder answers commands that are typed on it.
pub fn node_socket(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// Where it is kept what CNI plugins connected.
pub(crate) fn cni_attachments(data_dir: &DataDir) -> PathBuf {
    data_dir.agent().join("cni")
}

/// Runs a task whose failure nobody waits for.
async fn told(what: &'static str, task: impl Future<Output = images::Result<()>>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "{what}");
    }
}

async fn follow_dates(mut changes: watch::Receiver<()>, kubelet: Kubelet) {
    while changes.changed().await.is_ok() {
        kubelet.dates_changed();
    }
}

/// What the network of a server's node is made from.
pub(crate) fn network_settings(
    server: &ServerConfig,
    node: &NodeConfig,
    data_dir: &DataDir,
) -> NodeNetworkSettings {
    let network = &server.network;
    let first = network.node_cidrs.first();
    NodeNetworkSettings {
        node_name: node.name.clone(),
        instance: data_dir.instance(),
        folder: data_dir.agent(),
        said_address: node.address,
        interface: node.interface.clone(),
        cluster_cidrs: network.cluster_cidrs.clone(),
        service_cidrs: network.service_cidrs.clone(),
        backend: network.backend,
        checksums: node.checksums,
        share: if server.runs_controllers {
            Share::Given { asked_for: first }
        } else {
            Share::Taken(first)
        },
    }
}

/// How the parts of a node call the API.
#[derive(Clone)]
pub(crate) struct NodeClients {
    /// As `system:node:<name>`.
    pub(crate) node: Client,
    /// Its caches see as who may see what the node's network needs.
    pub(crate) watching: Factory,
}

/// What a node is told about its cluster.
pub(crate) struct ClusterFacts {
    pub(crate) cluster_cidrs: Vec<IpNet>,
    pub(crate) service_cidrs: Vec<IpNet>,
    pub(crate) cluster_domain: String,
    pub(crate) cluster_dns: Vec<IpAddr>,
    pub(crate) dns: DnsRole,
    pub(crate) enforces_network_policies: bool,
}

/// Whether the node answers the DNS of its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DnsRole {
    Answers,
    /// `--disable coredns`: somebody else does.
    Silent,
}

/// Everything of a node that runs.
pub(crate) struct Node<'a> {
    pub(crate) node: &'a NodeConfig,
    pub(crate) cluster: ClusterFacts,
    pub(crate) data_dir: &'a DataDir,
    pub(crate) clients: NodeClients,
    /// What the kubelet's server shows.
    pub(crate) certificate: Arc<dyn ResolvesServerCert>,
    /// Who signs the clients of the kubelet's server.
    pub(crate) client_authorities: Arc<ClientAuthorities>,
    /// Whether nodes pull from each other, and as whom this one does.
    pub(crate) sharing: Option<PeerCredentials>,
    /// What counts until a server answers.
    pub(crate) memory: &'a Memory,
    pub(crate) basics: &'a Basics,
}

impl NodeClients {
    /// Until a server answers `network`, its caches hold what `memory` remembers.
    pub(crate) fn new(node: Client, network: Client, memory: &Memory, basics: &Basics) -> Self {
        let watching = Factory::with_memory(network, basics.rng.clone(), memory.clone());
        Self { node, watching }
    }
}

impl Node<'_> {
    pub(crate) async fn start(&self, network: NodeNetwork) -> anyhow::Result<()> {
        self.promise_addresses(&network.pods);
        let watching = &self.clients.watching;
        // What both look at, as Services are, is read and remembered once.
        let kubelet_factory = watching.calling_as(self.clients.node.clone());
        let policies = self.start_services(&network.pods, watching)?;
        let images = self.open_images(watching)?;
        let connector = self.connector(&network)?;
        let pods = PodSandboxNetwork {
            connector: connector.clone(),
            policies: policies.clone(),
        };
        let runtime: Arc<dyn RuntimeService> =
            Arc::new(self.open_runtime(pods, images.clone()).await?);
        if let Some(policies) = &policies {
            network_policies::adopt(policies, &connector, &*runtime).await?;
        }
        let config = self.kubelet_config(&network, &connector);
        let kubelet = self.kubelet(config, runtime, images.clone(), kubelet_factory)?;
        self.serve_kubelet(&kubelet, images).await?;
        let (told, shutdown) = (kubelet.clone(), self.basics.shutdown.clone());
        let tell = move |news: ClockNews| told.warn_of_node(news.reason, &news.message);
        env::spawn(self.basics.time.clone().watch(Box::new(tell), shutdown));
        env::spawn(follow_dates(self.basics.time.changes(), kubelet.clone()));
        let shutdown = self.basics.shutdown.clone();
        keep_running("kubelet", shutdown.clone(), move || {
            let (kubelet, shutdown) = (kubelet.clone(), shutdown.clone());
            async move {
                kubelet.run(shutdown).await;
                Ok(())
            }
        });
        network.run(&NodeNetworkParts {
            node: self.clients.node.clone(),
            factory: watching.clone(),
            basics: self.basics.clone(),
        });
        Ok(())
    }

    /// Pods that ran before a reboot get the addresses that they had.
    fn promise_addresses(&self, pods: &PodNetwork) {
        let remembered = kubelet::remembered_addresses(self.memory, &self.node.name);
        let promised = remembered.into_iter();
        pods.promise(promised.map(|(pod_uid, addresses)| AttachedPod { pod_uid, addresses }));
    }

    /// Our own links, or with `--flannel-backend=none` whatever plugins the administrator brings.
    fn connector(&self, network: &NodeNetwork) -> anyhow::Result<Connector> {
        if network.backend() != Backend::None {
            return Ok(Connector::Routes(network.pods.clone()));
        }
        let plugins = CniNetwork::open(cni::Folders {
            configurations: self.node.cni_configurations.clone(),
            programs: self.node.cni_programs.clone(),
            attachments: cni_attachments(self.data_dir),
        })?;
        let (followed, shutdown) = (plugins.clone(), self.basics.shutdown.clone());
        keep_running("network configurations", shutdown.clone(), move || {
            let (followed, shutdown) = (followed.clone(), shutdown.clone());
            async move { Ok(followed.follow(shutdown).await?) }
        });
        Ok(Connector::Plugins(plugins))
    }

    /// As the environment says; what is in the cluster is reached straight.
    fn image_proxies(&self) -> images::Proxies {
        let cluster = &self.cluster;
        let ranges = [&cluster.cluster_cidrs[..], &cluster.service_cidrs[..]].concat();
        let said = self.node.image_proxies.clone();
        let proxies = said.straight_to(&ranges, &cluster.cluster_domain);
        images::Proxies {
            https: proxies.https,
            http: proxies.http,
            no_proxy: proxies.no_proxy,
        }
    }

    fn open_images(&self, factory: &Factory) -> anyhow::Result<Arc<LocalImageService>> {
        let store = ImageStore::open(&self.data_dir.agent()).context("open the image store")?;
        let settings = PullSettings {
            proxies: Arc::new(self.image_proxies()),
            ..PullSettings::default()
        };
        let mut images = LocalImageService::new(Arc::new(store), settings);
        if let Some(sharing) = &self.sharing {
            let clock = self.basics.clock.clone();
            let peers = NodePeers::new(factory, &self.node.name, sharing.clone(), clock);
            images = images.with_peers(Arc::new(peers));
        }
        let images = Arc::new(images);
        let shutdown = self.basics.shutdown.clone();
        let default_endpoint = if self.node.uses_default_registry_endpoint {
            DefaultEndpoint::Used
        } else {
            DefaultEndpoint::Disabled
        };
        let file = self.node.registries_file.clone();
        let registries = images
            .clone()
            .follow_registries(file, default_endpoint, shutdown.clone())
            .context("read the settings of registries")?;
        env::spawn(told("registries.yaml is not followed any more", registries));
        let archives = images.clone().keep_air_gap_imported(shutdown);
        env::spawn(told("archives are not imported any more", archives));
        Ok(images)
    }

    async fn open_runtime(
        &self,
        network: PodSandboxNetwork,
        images: Arc<dyn ImageService>,
    ) -> anyhow::Result<Runtime> {
        let options = RuntimeOptions {
            data_dir: self.data_dir.root().to_owned(),
            instance: self.data_dir.instance(),
            cgroup_parent: control_groups::for_pods().context("find the own control group")?,
            images,
            network: Arc::new(network),
            clock: self.basics.clock.clone(),
            rng: self.basics.rng.clone(),
            log_limits: LogLimits::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Runtime::open(options)
            .await
            .context("open the container runtime")
    }

    fn kubelet_config(&self, network: &NodeNetwork, connector: &Connector) -> kubelet::Config {
        let root = self.data_dir.agent().join("kubelet");
        let mut config = kubelet::Config::new(self.node.name.clone(), root);
        config.pod_logs_directory = self.data_dir.agent().join("logs/pods");
        config.manifests_directory = Some(self.data_dir.static_pods());
        config.node_addresses = network.addresses();
        if let Connector::Plugins(plugins) = connector {
            config.network_fault = plugins.fault();
        }
        config
            .node_external_addresses
            .clone_from(&self.node.external_addresses);
        config.resolv_conf.clone_from(&self.node.resolv_conf);
        config.node_annotations = network.annotations();
        config.cluster_dns.clone_from(&self.cluster.cluster_dns);
        config
            .cluster_domain
            .clone_from(&self.cluster.cluster_domain);
        config.listen = SocketAddr::from(([0, 0, 0, 0], self.node.kubelet_port));
        config.node_labels = self.node.labels.iter().cloned().collect();
        config.register_taints.clone_from(&self.node.taints);
        // k3s' thresholds: at the edge disks are small and full.
        config.eviction.nodefs_available_percent = DISK_AVAILABLE_PERCENT;
        config.eviction.imagefs_available_percent = DISK_AVAILABLE_PERCENT;
        config.memory_limits = control_groups::memory_limits();
        config.boot_id = linux::process::boot_id().unwrap_or_default();
        config
    }

    fn kubelet(
        &self,
        config: kubelet::Config,
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
        factory: Factory,
    ) -> anyhow::Result<Kubelet> {
        std::fs::create_dir_all(&config.root_directory)?;
        let capacity = Capacity::measure(&config)?;
        let client = self.clients.node.clone();
        Kubelet::new(Parts {
            config,
            capacity,
            runtime,
            images,
            client,
            factory,
            clock: self.basics.clock.clone(),
            rng: self.basics.rng.clone(),
        })
        .context("open the volumes of pods")
    }

    async fn serve_kubelet(
        &self,
        kubelet: &Kubelet,
        images: Arc<LocalImageService>,
    ) -> anyhow::Result<()> {
        let authorizer = ApiAuthorizer::new(self.clients.node.clone(), self.basics.clock.clone());
        let parts = ServerParts {
            certificate: self.certificate.clone(),
            client_authorities: Some(self.client_authorities.clone()),
            authorizer: Arc::new(authorizer),
            shared_images: self.sharing.is_some().then_some(images as _),
        };
        let server = KubeletServer::new(kubelet.clone(), parts)?;
        self.serve_on_node(server.clone())?;
        let address = SocketAddr::from(([0, 0, 0, 0], self.node.kubelet_port));
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen on {address} for the kubelet"))?;
        let shutdown = self.basics.shutdown.clone();
        env::spawn(async move { server.run(listener, shutdown).await });
        Ok(())
    }

    /// For commands on the node itself.
    fn serve_on_node(&self, server: KubeletServer) -> anyhow::Result<()> {
        let listener = linux::unix_socket::listen(&node_socket(self.data_dir.root()))?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let shutdown = self.basics.shutdown.clone();
        env::spawn(async move { server.run_on_node(listener, shutdown).await });
        Ok(())
    }

    /// Services, DNS, and network policies if there are any: pods wait for those that this returns.
    fn start_services(
        &self,
        pods: &PodNetwork,
        factory: &Factory,
    ) -> anyhow::Result<Option<NodePods>> {
        let facts = NodeFacts {
            name: self.node.name.clone(),
            zone: None,
            cluster_cidrs: self.cluster.cluster_cidrs.clone(),
        };
        let (basics, instance, watching) = (
            self.basics.clone(),
            self.data_dir.instance(),
            factory.clone(),
        );
        keep_running("service proxy", self.basics.shutdown.clone(), move || {
            let (basics, instance, facts, factory) = (
                basics.clone(),
                instance.clone(),
                facts.clone(),
                watching.clone(),
            );
            async move {
                let proxy = ServiceProxy::open(&instance).context("open the service proxy")?;
                service_proxy::run(
                    proxy,
                    facts,
                    &factory,
                    basics.clock.clone(),
                    basics.shutdown.clone(),
                )
                .await;
                Ok(())
            }
        });
        if self.cluster.dns == DnsRole::Answers {
            self.start_dns(pods, factory);
        }
        let instance = self.data_dir.instance();
        if !self.cluster.enforces_network_policies {
            network_policies::remove(&instance)?;
            return Ok(None);
        }
        let policies = network_policies::start(&instance, factory, self.basics);
        Ok(Some(policies))
    }

    fn start_dns(&self, pods: &PodNetwork, factory: &Factory) {
        let dns = NodeDns {
            domain: self.cluster.cluster_domain.clone(),
            service_addresses: self.cluster.cluster_dns.clone(),
            resolv_conf: self.node.resolv_conf.clone(),
            pods: pods.clone(),
            factory: factory.clone(),
            basics: self.basics.clone(),
        };
        keep_running("DNS", self.basics.shutdown.clone(), move || {
            dns.clone().run()
        });
    }
}

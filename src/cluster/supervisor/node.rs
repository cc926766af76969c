//! The node in a server's process: network, runtime, kubelet.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bootstrap::{Credentials, DataDir};
use config::{NodeConfig, ServerConfig};
use containers::{LogLimits, Runtime, RuntimeOptions};
use cri::{ImageService, RuntimeService};
use images::{DefaultEndpoint, ImageStore, LocalImageService, PullSettings};
use informer::Factory;
use kubelet::{ApiAuthorizer, Capacity, Kubelet, KubeletServer, Parts, ServerParts};
use network_policy::NodePods;
use pod_network::PodNetwork;
use rest::ApiServer;
use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::CertificateDer;
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use service_proxy::{NodeFacts, ServiceProxy};
use tokio::net::TcpListener;

use crate::cluster_dns::ClusterDns;
use crate::components::client_as;
use crate::control_groups;
use crate::control_plane::Basics;
use crate::keep_running::keep_running;
use crate::network_policies;
use crate::node_network::{NodeNetwork, NodeNetworkParts, NodeNetworkSettings, Share};
use crate::node_role;
use crate::sandbox_network::RoutedNetwork;

/// As whom the service proxy and DNS look at the API.
const NETWORK_USER: &str = "system:kube-proxy";

/// Below this the node counts as short of disk.
const DISK_AVAILABLE_PERCENT: u64 = 5;
/// Mirrors and credentials of registries, as k3s has them.
const REGISTRIES_FILE: &str = "/etc/combo/registries.yaml";

/// Runs a task whose failure nobody waits for.
async fn told(what: &'static str, task: impl Future<Output = images::Result<()>>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "{what}");
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

/// Everything of a node that runs.
pub(crate) struct Node<'a> {
    pub(crate) server: &'a ServerConfig,
    pub(crate) node: &'a NodeConfig,
    pub(crate) data_dir: &'a DataDir,
    pub(crate) credentials: &'a Credentials,
    pub(crate) api: &'a ApiServer,
    pub(crate) basics: &'a Basics,
}

impl Node<'_> {
    pub(crate) async fn start(&self, network: NodeNetwork) -> anyhow::Result<()> {
        let policies = self.start_services(&network.pods)?;
        let images = self.open_images()?;
        let pods = RoutedNetwork {
            pods: network.pods.clone(),
            policies: policies.clone(),
        };
        let runtime: Arc<dyn RuntimeService> =
            Arc::new(self.open_runtime(pods, images.clone()).await?);
        if let Some(policies) = &policies {
            network_policies::adopt(policies, &network.pods, &*runtime).await?;
        }
        let kubelet = self.kubelet(&network, runtime, images)?;
        self.serve_kubelet(&kubelet).await?;
        let shutdown = self.basics.shutdown.clone();
        keep_running("kubelet", shutdown.clone(), move || {
            let (kubelet, shutdown) = (kubelet.clone(), shutdown.clone());
            async move {
                kubelet.run(shutdown).await;
                Ok(())
            }
        });
        network.run(&NodeNetworkParts {
            node: client_as(self.api, &format!("system:node:{}", self.node.name)),
            factory: Factory::new(client_as(self.api, NETWORK_USER), self.basics.rng.clone()),
            basics: self.basics.clone(),
        });
        node_role::keep(self.api, &self.node.name, self.basics);
        Ok(())
    }

    fn open_images(&self) -> anyhow::Result<Arc<LocalImageService>> {
        let store = ImageStore::open(&self.data_dir.agent()).context("open the image store")?;
        let images = Arc::new(LocalImageService::new(
            Arc::new(store),
            PullSettings::default(),
        ));
        let shutdown = self.basics.shutdown.clone();
        let registries = images
            .clone()
            .follow_registries(
                REGISTRIES_FILE.into(),
                DefaultEndpoint::Used,
                shutdown.clone(),
            )
            .context("read the settings of registries")?;
        env::spawn(told("registries.yaml is not followed any more", registries));
        let archives = images.clone().keep_air_gap_imported(shutdown);
        env::spawn(told("archives are not imported any more", archives));
        Ok(images)
    }

    async fn open_runtime(
        &self,
        network: RoutedNetwork,
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

    fn kubelet_config(&self, network: &NodeNetwork) -> kubelet::Config {
        let root = self.data_dir.agent().join("kubelet");
        let mut config = kubelet::Config::new(self.node.name.clone(), root);
        config.pod_logs_directory = self.data_dir.agent().join("logs/pods");
        config.manifests_directory = Some(self.data_dir.static_pods());
        config.node_addresses = network.addresses();
        config.node_annotations = network.annotations();
        config.cluster_dns = vec![self.server.cluster_dns];
        config
            .cluster_domain
            .clone_from(&self.server.cluster_domain);
        config.listen = SocketAddr::from(([0, 0, 0, 0], self.node.kubelet_port));
        config.node_labels = self.node.labels.iter().cloned().collect();
        config.register_taints.clone_from(&self.node.taints);
        // k3s' thresholds: at the edge disks are small and full.
        config.eviction.nodefs_available_percent = DISK_AVAILABLE_PERCENT;
        config.eviction.imagefs_available_percent = DISK_AVAILABLE_PERCENT;
        config.boot_id = linux::process::boot_id().unwrap_or_default();
        config
    }

    fn kubelet(
        &self,
        network: &NodeNetwork,
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
    ) -> anyhow::Result<Kubelet> {
        let config = self.kubelet_config(network);
        std::fs::create_dir_all(&config.root_directory)?;
        let capacity = Capacity::measure(&config)?;
        let client = client_as(self.api, &format!("system:node:{}", self.node.name));
        let factory = Factory::new(client.clone(), self.basics.rng.clone());
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

    async fn serve_kubelet(&self, kubelet: &Kubelet) -> anyhow::Result<()> {
        let mut client_authorities = RootCertStore::empty();
        client_authorities.add(CertificateDer::from(
            self.credentials.client_authority.certificate_der().to_vec(),
        ))?;
        let client = client_as(self.api, &format!("system:node:{}", self.node.name));
        let parts = ServerParts {
            certificate: self.kubelet_certificate()?,
            client_authorities,
            authorizer: Arc::new(ApiAuthorizer::new(client, self.basics.clock.clone())),
        };
        let server = KubeletServer::new(kubelet.clone(), parts)?;
        let address = SocketAddr::from(([0, 0, 0, 0], self.node.kubelet_port));
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen on {address} for the kubelet"))?;
        let shutdown = self.basics.shutdown.clone();
        env::spawn(async move { server.run(listener, shutdown).await });
        Ok(())
    }

    fn kubelet_certificate(&self) -> anyhow::Result<Arc<dyn ResolvesServerCert>> {
        let identity = self
            .credentials
            .kubelet_server
            .as_ref()
            .context("there is no kubelet certificate")?;
        let chain = identity
            .chain()
            .into_iter()
            .map(CertificateDer::from)
            .collect();
        let key = any_ecdsa_type(&identity.key.to_private_key_der())?;
        Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
            chain, key,
        ))))
    }

    /// Services, DNS, and network policies if there are any: pods wait for those that this returns.
    fn start_services(&self, pods: &PodNetwork) -> anyhow::Result<Option<NodePods>> {
        let client = client_as(self.api, NETWORK_USER);
        let factory = Factory::new(client, self.basics.rng.clone());
        let facts = NodeFacts {
            name: self.node.name.clone(),
            zone: None,
            cluster_cidrs: self.server.network.cluster_cidrs.clone(),
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
        self.start_dns(pods, &factory);
        let instance = self.data_dir.instance();
        if !self.server.enforces_network_policies {
            network_policies::remove(&instance)?;
            return Ok(None);
        }
        let policies = network_policies::start(&instance, &factory, self.basics);
        Ok(Some(policies))
    }

    fn start_dns(&self, pods: &PodNetwork, factory: &Factory) {
        let dns = ClusterDns {
            domain: self.server.cluster_domain.clone(),
            service_address: self.server.cluster_dns,
            node_name: self.node.name.clone(),
            pods: pods.clone(),
            factory: factory.clone(),
            client: crate::components::masters_client(self.api),
            basics: self.basics.clone(),
        };
        keep_running("DNS", self.basics.shutdown.clone(), move || {
            dns.clone().run()
        });
    }
}

//! The node in a server's process: network, runtime, kubelet.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use bootstrap::{Credentials, DataDir};
use config::{NodeConfig, ServerConfig};
use containers::{LogLimits, Runtime, RuntimeOptions};
use cri::{ImageService, RuntimeService};
use images::{DefaultEndpoint, ImageStore, LocalImageService, PullSettings};
use informer::Factory;
use ipnet::{IpNet, Ipv4Net};
use kubelet::{ApiAuthorizer, Capacity, Kubelet, KubeletServer, Parts, ServerParts};
use pod_network::{NodeLink, NodeLinkConfig, PodNetwork};
use rest::ApiServer;
use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::CertificateDer;
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use service_proxy::{NodeFacts, ServiceProxy};
use tokio::net::TcpListener;

use crate::cluster_dns;
use crate::components::client_as;
use crate::control_groups;
use crate::control_plane::Basics;
use crate::keep_running::keep_running;
use crate::node_role;
use crate::sandbox_network::RoutedNetwork;

/// A node's share of the cluster's pod addresses.
const NODE_PREFIX: u8 = 24;
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

/// The node's own network, which stands before anything else: it gives the node its address.
pub(crate) struct NodeNetwork {
    pods: PodNetwork,
    /// The node's address in its own pod network, where only pods and this node come.
    inner_address: IpAddr,
    pub(crate) address: IpAddr,
}

/// The first node's pod addresses: the first /24 of an IPv4 cluster range, else the whole range.
fn node_cidr(cluster: &IpNet) -> IpNet {
    match cluster {
        IpNet::V4(range) if range.prefix_len() < NODE_PREFIX => {
            Ipv4Net::new(range.network(), NODE_PREFIX).map_or(*cluster, IpNet::V4)
        }
        other => *other,
    }
}

impl NodeNetwork {
    pub(crate) fn open(
        config: &ServerConfig,
        node: &NodeConfig,
        instance: &str,
    ) -> anyhow::Result<Self> {
        let pod_cidrs = vec![node_cidr(&config.cluster_cidr)];
        let service_cidrs = vec![config.service_cidr];
        let found = || {
            pod_network::node_addresses()
                .ok()
                .and_then(|addresses| addresses.first().copied())
        };
        let outer_address = node.address.or_else(found);
        let mtu = pod_network::uplink_mtu(outer_address)
            .context("read the size of packets that the uplink carries")?;
        let link = NodeLinkConfig {
            instance: instance.to_owned(),
            pod_cidrs: pod_cidrs.clone(),
            service_cidrs: service_cidrs.clone(),
            mtu,
        };
        let link = NodeLink::ensure(&link).context("make the node's network link")?;
        let pods = pod_network::Config {
            instance: instance.to_owned(),
            pod_cidrs,
            service_cidrs,
            mtu,
        };
        let pods = PodNetwork::open(&pods).context("open the pod network")?;
        // On a machine with nothing but loopback, the node's address in its own pod network is the one that others can use.
        let address = outer_address.or_else(|| link.addresses.first().copied());
        let inner_address = link
            .addresses
            .first()
            .copied()
            .context("the node's link has no address")?;
        Ok(Self {
            pods,
            inner_address,
            address: address.context("the node has no address; give one with --node-ip")?,
        })
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
        let address = network.address;
        self.start_services(network.inner_address).await?;
        let images = self.open_images()?;
        let runtime: Arc<dyn RuntimeService> =
            Arc::new(self.open_runtime(network, images.clone()).await?);
        let kubelet = self.kubelet(address, runtime, images)?;
        self.serve_kubelet(&kubelet).await?;
        let shutdown = self.basics.shutdown.clone();
        keep_running("kubelet", shutdown.clone(), move || {
            let (kubelet, shutdown) = (kubelet.clone(), shutdown.clone());
            async move {
                kubelet.run(shutdown).await;
                Ok(())
            }
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
        network: NodeNetwork,
        images: Arc<dyn ImageService>,
    ) -> anyhow::Result<Runtime> {
        let options = RuntimeOptions {
            data_dir: self.data_dir.root().to_owned(),
            instance: self.data_dir.instance(),
            cgroup_parent: control_groups::for_pods().context("find the own control group")?,
            images,
            network: Arc::new(RoutedNetwork(network.pods)),
            clock: self.basics.clock.clone(),
            rng: self.basics.rng.clone(),
            log_limits: LogLimits::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Runtime::open(options)
            .await
            .context("open the container runtime")
    }

    fn kubelet_config(&self, address: IpAddr) -> kubelet::Config {
        let root = self.data_dir.agent().join("kubelet");
        let mut config = kubelet::Config::new(self.node.name.clone(), root);
        config.pod_logs_directory = self.data_dir.agent().join("logs/pods");
        config.manifests_directory = Some(self.data_dir.static_pods());
        config.node_addresses = vec![address];
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
        address: IpAddr,
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
    ) -> anyhow::Result<Kubelet> {
        let config = self.kubelet_config(address);
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

    /// Services and DNS.
    async fn start_services(&self, address: IpAddr) -> anyhow::Result<()> {
        let client = client_as(self.api, NETWORK_USER);
        let factory = Factory::new(client, self.basics.rng.clone());
        let facts = NodeFacts {
            name: self.node.name.clone(),
            zone: None,
            cluster_cidrs: vec![self.server.cluster_cidr],
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
        self.start_dns(address, factory).await
    }

    async fn start_dns(&self, address: IpAddr, factory: Factory) -> anyhow::Result<()> {
        let config = dns::Config {
            cluster_domain: self.server.cluster_domain.clone(),
            listen: vec![SocketAddr::new(address, 0)],
            service_addresses: vec![self.server.cluster_dns],
            resolv_conf: "/etc/resolv.conf".into(),
        };
        let server = dns::Dns::bind(config, self.basics.clock.clone())
            .await
            .context("start the cluster's DNS")?;
        let listening = server
            .local_addresses()
            .first()
            .copied()
            .context("DNS listens nowhere")?;
        let (records, shutdown) = (server.records(), self.basics.shutdown.clone());
        let until = shutdown.clone();
        keep_running("records of DNS", shutdown.clone(), move || {
            let (records, factory, until) = (records.clone(), factory.clone(), until.clone());
            async move {
                dns::follow(&records, &factory, until).await;
                Ok(())
            }
        });
        env::spawn(async move { server.run(shutdown).await });
        let client = crate::components::masters_client(self.api);
        cluster_dns::publish(
            &client,
            &self.server.cluster_dns.to_string(),
            listening,
            &self.node.name,
        )
        .await
        .context("publish the DNS Service")
    }
}

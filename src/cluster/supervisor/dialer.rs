//! How the API server reaches kubelets, pods and Services: through the connection that the node's agent opened, else straight, over the
//! own node's network.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use env::Clock;
use informer::Cache;
use kube_client::{ClientCertificate, ClockTime};
use rest::{ByteStream, DialError, KubeletAddress, KubeletDialer};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tunnel::{Target, TunnelStream, Tunnels};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Reaches what runs on nodes.
pub(crate) struct NodeDialer {
    tls: TlsConnector,
    tunnels: Tunnels,
    /// Where the nodes' pods are; it comes when there is an API.
    nodes: OnceLock<Arc<Cache>>,
}

impl std::fmt::Debug for NodeDialer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("NodeDialer")
    }
}

impl NodeDialer {
    /// Shows `identity` to kubelets whose certificates one of `authorities` signed.
    pub(crate) fn new(
        identity: Arc<ClientCertificate>,
        authorities: &[Vec<u8>],
        tunnels: Tunnels,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(CertificateDer::from(authority.clone()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_details(provider, Arc::new(ClockTime(clock)))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_cert_resolver(identity);
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            tunnels,
            nodes: OnceLock::new(),
        })
    }

    /// From here on it is known on which node an address is.
    pub(crate) fn follow(&self, nodes: Arc<Cache>) {
        let _first = self.nodes.set(nodes);
    }

    /// The node that an address of a pod belongs to.
    fn node_of(&self, address: IpAddr) -> Option<String> {
        let nodes = self.nodes.get()?.list();
        let found = nodes.iter().find(|node| {
            let ranges = pod_network::pod_cidrs_of(node);
            ranges.iter().any(|range| range.contains(&address))
        });
        found.map(|node| node.key().name.clone())
    }

    async fn through(&self, node: &str, target: Target) -> Result<TunnelStream, DialError> {
        let opened = self.tunnels.open(node, target).await;
        opened.map_err(|error| DialError(error.to_string()))
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let target = format!("{host}:{port}");
    let stream = env::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port)))
        .await
        .map_err(|_slow| DialError(format!("dial tcp {target}: i/o timeout")))?
        .map_err(|error| DialError(format!("dial tcp {target}: connect: {error}")))?;
    // Interactive streams send small pieces that must not wait for each other.
    stream
        .set_nodelay(true)
        .map_err(|error| DialError(error.to_string()))?;
    Ok(stream)
}

#[async_trait]
impl KubeletDialer for NodeDialer {
    async fn dial_kubelet(
        &self,
        address: &KubeletAddress,
    ) -> Result<Box<dyn ByteStream>, DialError> {
        let stream: Box<dyn ByteStream> = if self.tunnels.is_connected(&address.node) {
            Box::new(self.through(&address.node, Target::Kubelet).await?)
        } else {
            Box::new(connect(&address.host, address.port).await?)
        };
        // A kubelet's certificate is made out to its node, whatever addresses the node has.
        let name = ServerName::try_from(address.node.clone())
            .map_err(|error| DialError(error.to_string()))?;
        let stream = env::timeout(CONNECT_TIMEOUT, self.tls.connect(name, stream))
            .await
            .map_err(|_slow| DialError("TLS handshake timeout".to_owned()))?
            .map_err(|error| DialError(error.to_string()))?;
        Ok(Box::new(stream))
    }

    async fn dial(
        &self,
        node: Option<&str>,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn ByteStream>, DialError> {
        let address = host.parse::<IpAddr>().ok();
        let node = match (node, address) {
            (Some(node), _) => Some(node.to_owned()),
            (None, Some(address)) => self.node_of(address),
            (None, None) => None,
        };
        let tunnelled = node.filter(|node| self.tunnels.is_connected(node));
        match (tunnelled, address) {
            (Some(node), Some(address)) => {
                let target = Target::Address(SocketAddr::new(address, port));
                Ok(Box::new(self.through(&node, target).await?))
            }
            _ => Ok(Box::new(connect(host, port).await?)),
        }
    }
}

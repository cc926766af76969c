//! How the API server reaches kubelets, pods and Services: straight, over the node's own network.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bootstrap::Identity;
use rest::{ByteStream, DialError, KubeletAddress, KubeletDialer};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct DirectDialer {
    tls: TlsConnector,
}

impl std::fmt::Debug for DirectDialer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DirectDialer")
    }
}

impl DirectDialer {
    /// Shows `identity` to kubelets whose certificates `authority` signed.
    pub(crate) fn new(identity: &Identity, authority: &[u8]) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.to_vec()))?;
        let chain = identity
            .chain()
            .into_iter()
            .map(CertificateDer::from)
            .collect();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, identity.key.to_private_key_der())?;
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
        })
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
impl KubeletDialer for DirectDialer {
    async fn dial_kubelet(
        &self,
        address: &KubeletAddress,
    ) -> Result<Box<dyn ByteStream>, DialError> {
        let stream = connect(&address.host, address.port).await?;
        let name = ServerName::try_from(address.host.clone())
            .map_err(|error| DialError(error.to_string()))?;
        let stream = env::timeout(CONNECT_TIMEOUT, self.tls.connect(name, stream))
            .await
            .map_err(|_slow| DialError("TLS handshake timeout".to_owned()))?
            .map_err(|error| DialError(error.to_string()))?;
        Ok(Box::new(stream))
    }

    async fn dial(
        &self,
        _node: Option<&str>,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn ByteStream>, DialError> {
        Ok(Box::new(connect(host, port).await?))
    }
}

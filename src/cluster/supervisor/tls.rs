//! TLS of the server's listeners.

use std::sync::Arc;

use rustls::ServerConfig;

use crate::client_authorities::ClientAuthorities;
use crate::served_certificate::ServedCertificate;

/// A configuration that shows `served` and asks clients for certificates of `authorities`; clients may have none.
pub(crate) fn server_config(
    served: Arc<ServedCertificate>,
    authorities: Arc<ClientAuthorities>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(authorities)
        .with_cert_resolver(served);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

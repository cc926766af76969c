//! Who is believed to be an etcd member, and who we say that we are.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error("the datastore's certificate authority (--datastore-cafile) cannot be used: {0}")]
    Authority(String),
    #[error("the datastore's client certificate (--datastore-certfile) cannot be used: {0}")]
    Certificate(String),
    #[error(
        "the key of the datastore's client certificate (--datastore-keyfile) cannot be used: {0}"
    )]
    Key(String),
}

/// How the members of a cluster are talked to.
#[derive(Clone)]
pub enum Security {
    /// Whoever listens in between reads and writes everything.
    Plain,
    Tls(Arc<ClientConfig>),
}

impl fmt::Debug for Security {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plain => "Plain",
            Self::Tls(_) => "Tls",
        })
    }
}

impl Security {
    /// TLS from PEM: the authorities that vouch for the members, and our own chain with its key, if the members ask for one.
    pub fn tls(
        authorities: &[u8],
        identity: Option<(&[u8], &[u8])>,
    ) -> Result<Self, SecurityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SecurityError::Authority(error.to_string()))?
            .with_root_certificates(roots(authorities)?);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| SecurityError::Key(error.to_string()))?;
                let chain = certificates(chain).map_err(SecurityError::Certificate)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| SecurityError::Certificate(error.to_string()))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self::Tls(Arc::new(config)))
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, SecurityError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).map_err(SecurityError::Authority)? {
        roots
            .add(certificate)
            .map_err(|error| SecurityError::Authority(error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(certificates)
}

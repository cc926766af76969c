//! TLS towards a server: only the given roots are trusted, and the client's certificate can be replaced while calls run.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use super::{Credentials, HttpConfig};
use crate::ClientError;

#[derive(Clone, Copy)]
pub(super) enum Protocols {
    Http2OrHttp1,
    Http1,
}

/// A client certificate with its key; `replace` changes it for all connections opened afterwards.
pub struct ClientCertificate(RwLock<Arc<CertifiedKey>>);

impl ClientCertificate {
    /// From PEM: the chain, leaf first, and the key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Arc<Self>, ClientError> {
        Ok(Arc::new(Self(RwLock::new(certified_key(chain, key)?))))
    }

    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), ClientError> {
        *self.0.write() = certified_key(chain, key)?;
        Ok(())
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientCertificate")
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(
        &self,
        _issuers: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified_key(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, ClientError> {
    let refuse = |why: String| {
        ClientError::Malformed(format!("the client certificate cannot be used: {why}"))
    };
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refuse(error.to_string()))?;
    if chain.is_empty() {
        return Err(refuse("there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| refuse(error.to_string()))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|error| refuse(error.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

pub(super) fn client_config(
    config: &HttpConfig,
    protocols: Protocols,
) -> Result<ClientConfig, ClientError> {
    let refuse = |why: String| {
        ClientError::Malformed(format!("the certificate authority cannot be used: {why}"))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&config.certificate_authority) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() && !config.server.starts_with("http://") {
        return Err(refuse("there is no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?
        .with_root_certificates(roots);
    let mut tls = match &config.credentials {
        Credentials::Certificate(certificate) => builder
            .with_client_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesClientCert>),
        Credentials::Anonymous | Credentials::BearerToken(_) => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = match protocols {
        Protocols::Http2OrHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Protocols::Http1 => vec![b"http/1.1".to_vec()],
    };
    Ok(tls)
}

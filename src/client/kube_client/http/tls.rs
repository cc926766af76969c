//! TLS towards a server: only the given roots are trusted, and the client's certificate can be replaced while calls run.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use env::Clock;
use parking_lot::RwLock;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use super::anybody::Anybody;
use super::{Credentials, HttpConfig, Trust};
use crate::ClientError;

#[derive(Clone, Copy)]
pub(super) enum Protocols {
    Http2OrHttp1,
    Http1,
}

/// A client certificate with its key; `replace` changes it for all calls begun afterwards.
pub struct ClientCertificate {
    key: RwLock<Arc<CertifiedKey>>,
    /// Counts how often it was replaced.
    generation: AtomicU64,
}

impl ClientCertificate {
    /// From PEM: the chain, leaf first, and the key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Arc<Self>, ClientError> {
        Ok(Arc::new(Self {
            key: RwLock::new(certified_key(chain, key)?),
            generation: AtomicU64::new(0),
        }))
    }

    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), ClientError> {
        *self.key.write() = certified_key(chain, key)?;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
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
        Some(Arc::clone(&self.key.read()))
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
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let time = Arc::new(ClockTime(Arc::clone(&config.clock)));
    let builder = ClientConfig::builder_with_details(Arc::clone(&provider), time)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse_authority(error.to_string()))?;
    let builder = match &config.trust {
        Trust::Authorities(pem) => {
            let roots = roots(pem)?;
            if roots.is_empty() && !config.server.starts_with("http://") {
                return Err(refuse_authority("there is no certificate in it".to_owned()));
            }
            builder.with_root_certificates(roots)
        }
        Trust::Current(authorities) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(authorities) as _),
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody::new(provider))),
    };
    let mut tls = match &config.credentials {
        Credentials::Certificate(certificate) => {
            let certificate = Arc::clone(certificate) as Arc<dyn ResolvesClientCert>;
            let mut tls = builder.with_client_cert_resolver(certificate);
            // A resumed session has the certificate that it began with, which may have ended.
            tls.resumption = Resumption::disabled();
            tls
        }
        Credentials::Anonymous | Credentials::BearerToken(_) | Credentials::Header(_) => {
            builder.with_no_client_auth()
        }
    };
    tls.alpn_protocols = match protocols {
        Protocols::Http2OrHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Protocols::Http1 => vec![b"http/1.1".to_vec()],
    };
    Ok(tls)
}

pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| refuse_authority(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refuse_authority(error.to_string()))?;
    }
    Ok(roots)
}

pub(super) fn refuse_authority(why: String) -> ClientError {
    ClientError::Malformed(format!("the certificate authority cannot be used: {why}"))
}

/// The process's own idea of time, which can be better than the machine's.
#[derive(Debug)]
pub struct ClockTime(pub Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().unix_seconds()).unwrap_or_default();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

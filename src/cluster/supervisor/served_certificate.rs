//! A certificate that a listener shows, and that can be another from one connection to the next.

use std::fmt;
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::RwLock;
use pki::{KeyPair, decode_pem};
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub(crate) struct ServedCertificate(RwLock<Arc<CertifiedKey>>);

impl ServedCertificate {
    /// `chain` in PEM, leaf first.
    pub(crate) fn new(chain: &str, key: &KeyPair) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self(RwLock::new(certified(chain, key)?))))
    }

    pub(crate) fn replace(&self, chain: &str, key: &KeyPair) -> anyhow::Result<()> {
        *self.0.write() = certified(chain, key)?;
        Ok(())
    }
}

impl fmt::Debug for ServedCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ServedCertificate")
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

fn certified(chain: &str, key: &KeyPair) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain = decode_pem("CERTIFICATE", chain);
    anyhow::ensure!(!chain.is_empty(), "there is no certificate to show");
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let key = any_ecdsa_type(&key.to_private_key_der()).context("use the key of a certificate")?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

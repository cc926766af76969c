//! Who signs the clients of a listener, where that changes while it serves.

use std::fmt;
use std::sync::Arc;

use env::Clock;
use kube_client::ClockTime;
use parking_lot::RwLock;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider as _;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

/// Believes clients that one of these authorities signed, and lets in others without a name.
pub(crate) struct ClientAuthorities {
    verifier: RwLock<Arc<dyn ClientCertVerifier>>,
    clock: Arc<dyn Clock>,
}

impl ClientAuthorities {
    /// `authorities` in DER.
    pub(crate) fn new(authorities: &[Vec<u8>], clock: Arc<dyn Clock>) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            verifier: RwLock::new(verifier(authorities)?),
            clock,
        }))
    }

    pub(crate) fn replace(&self, authorities: &[Vec<u8>]) -> anyhow::Result<()> {
        *self.verifier.write() = verifier(authorities)?;
        Ok(())
    }

    fn now(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier.read())
    }
}

fn verifier(authorities: &[Vec<u8>]) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from(authority.clone()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()?;
    Ok(verifier)
}

impl fmt::Debug for ClientAuthorities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientAuthorities")
    }
}

impl ClientCertVerifier for ClientAuthorities {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a list would be of one moment, and a client shows what it has without one.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _by_the_machine: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // The process's own idea of time can be better than the machine's.
        let now = ClockTime(Arc::clone(&self.clock)).current_time();
        let now = now.ok_or(rustls::Error::FailedToGetCurrentTime)?;
        self.now()
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.now()
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.now()
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().supported_verify_schemes()
    }
}

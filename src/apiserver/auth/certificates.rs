//! Client certificates: the common name is the user, the organizations are the groups.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::ApiError;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use env::Clock;
use pki::CertificateInfo;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::{Authenticator, Credentials, User};

/// Accepts certificates that a cluster authority signed for client use.
#[derive(Debug)]
pub struct ClientCertificates {
    verifier: ArcSwap<Arc<dyn ClientCertVerifier>>,
    clock: Arc<dyn Clock>,
}

impl ClientCertificates {
    /// `authorities` in DER; one that cannot be read is an error.
    pub fn new(authorities: &[Vec<u8>], clock: Arc<dyn Clock>) -> Result<Self, String> {
        Ok(Self {
            verifier: ArcSwap::from_pointee(verifier(authorities)?),
            clock,
        })
    }

    /// Trusts other authorities from now on.
    pub fn replace_authorities(&self, authorities: &[Vec<u8>]) -> Result<(), String> {
        self.verifier.store(Arc::new(verifier(authorities)?));
        Ok(())
    }
}

/// A digest as text, as upstream writes credential ids of certificates.
fn fingerprint(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn verifier(authorities: &[Vec<u8>]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(CertificateDer::from(authority.clone()))
            .map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())
}

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<User>, ApiError> {
        let Some((leaf, chain)) = credentials.peer_certificates.split_first() else {
            return Ok(None);
        };
        let now = u64::try_from(self.clock.now().unix_seconds()).unwrap_or(0);
        let chain: Vec<_> = chain
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        self.verifier
            .load()
            .verify_client_cert(
                &CertificateDer::from(leaf.as_slice()),
                &chain,
                UnixTime::since_unix_epoch(Duration::from_secs(now)),
            )
            .map_err(|_untrusted| ApiError::unauthorized())?;
        let info =
            CertificateInfo::from_der(leaf).map_err(|_unreadable| ApiError::unauthorized())?;
        if info.subject.common_name.is_empty() {
            return Err(ApiError::unauthorized());
        }
        let mut user = User {
            name: info.subject.common_name,
            groups: info.subject.organizations,
            ..User::default()
        };
        user.extra.insert(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![format!("X509SHA256={}", fingerprint(leaf))],
        );
        Ok(Some(user))
    }
}

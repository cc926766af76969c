//! Who signs: a trait, so that keys may live elsewhere, and the signer over authorities in this process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use env::{Rng, Timestamp};
use pki::{CertificateAuthority, CertificateRequest, Profile, SubjectNames, encode_pem};

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuedFor {
    /// Authentication to the API server.
    Client,
    /// A kubelet's HTTPS server.
    KubeletServing,
    /// Both, as the legacy signer signs.
    Anything,
}

/// Signs requests that were approved and have passed their signer's rules.
pub trait CertificateSigner: Send + Sync + fmt::Debug {
    /// The certificate in PEM. An error is retried.
    fn issue(
        &self,
        request: &CertificateRequest,
        purpose: IssuedFor,
        life: Duration,
        now: Timestamp,
    ) -> Result<String, String>;
}

/// Signs with authorities that this process holds.
#[derive(Debug)]
pub struct AuthoritySigner {
    clients: CertificateAuthority,
    servers: CertificateAuthority,
    rng: Arc<dyn Rng>,
}

impl AuthoritySigner {
    /// `clients` signs what the API server accepts as identities, `servers` what clients of kubelets accept.
    pub fn new(
        clients: CertificateAuthority,
        servers: CertificateAuthority,
        rng: Arc<dyn Rng>,
    ) -> Self {
        Self {
            clients,
            servers,
            rng,
        }
    }
}

impl CertificateSigner for AuthoritySigner {
    fn issue(
        &self,
        request: &CertificateRequest,
        purpose: IssuedFor,
        life: Duration,
        now: Timestamp,
    ) -> Result<String, String> {
        let (authority, profile) = match purpose {
            IssuedFor::Client => (&self.clients, Profile::Client),
            IssuedFor::KubeletServing => (&self.servers, Profile::Server),
            IssuedFor::Anything => (&self.clients, Profile::ClientAndServer),
        };
        let names = SubjectNames {
            dns_names: request.dns_names.clone(),
            addresses: request.addresses.clone(),
        };
        let issued = authority.issue_from_now(
            &request.subject,
            &names,
            &request.public_key_info,
            profile,
            (now, life),
            &*self.rng,
        );
        issued
            .map(|der| encode_pem("CERTIFICATE", &der))
            .map_err(|error| error.to_string())
    }
}

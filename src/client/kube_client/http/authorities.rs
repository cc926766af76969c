//! Whom a caller believes, where that changes while calls run.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use super::tls::{refuse_authority, roots};
use crate::ClientError;

/// Authorities that sign servers; `replace` changes them for all connections begun afterwards.
pub struct Authorities(RwLock<Believed>);

#[derive(Clone)]
struct Believed {
    pem: Vec<u8>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Authorities {
    /// From PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Arc<Self>, ClientError> {
        Ok(Arc::new(Self(RwLock::new(believed(pem)?))))
    }

    pub fn replace(&self, pem: &[u8]) -> Result<(), ClientError> {
        *self.0.write() = believed(pem)?;
        Ok(())
    }

    /// As they were given.
    pub fn pem(&self) -> Vec<u8> {
        self.0.read().pem.clone()
    }

    fn now(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.0.read().verifier)
    }
}

fn believed(pem: &[u8]) -> Result<Believed, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(pem)?), provider)
        .build()
        .map_err(|error| refuse_authority(error.to_string()))?;
    Ok(Believed {
        pem: pem.to_vec(),
        verifier,
    })
}

impl fmt::Debug for Authorities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authorities")
    }
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.now()
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.now()
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.now()
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().supported_verify_schemes()
    }
}

//! A private key: ECDSA on P-256, kept as PKCS #8.

use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::Error;
use crate::der_writer::{bit_string, oid, sequence};
use crate::pem::{decode_pem, encode_pem};

pub(crate) const OID_EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const OID_P256: &str = "1.2.840.10045.3.1.7";
pub(crate) const OID_ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";

/// A private key and what is derived from it. Its `Debug` shows nothing secret.
#[derive(Clone)]
pub struct KeyPair {
    pkcs8: Arc<[u8]>,
    signing: Arc<EcdsaKeyPair>,
    random: SystemRandom,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("KeyPair(P-256)")
    }
}

impl KeyPair {
    pub fn generate() -> Result<Self, Error> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|error| Error::Key(error.to_string()))?;
        Self::from_pkcs8(document.as_ref())
    }

    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random)
            .map_err(|error| Error::Key(error.to_string()))?;
        Ok(Self {
            pkcs8: der.into(),
            signing: Arc::new(signing),
            random,
        })
    }

    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let blocks = decode_pem("PRIVATE KEY", text);
        Self::from_pkcs8(blocks.first().ok_or(Error::Pem {
            label: "PRIVATE KEY",
        })?)
    }

    pub fn to_pem(&self) -> String {
        encode_pem("PRIVATE KEY", &self.pkcs8)
    }

    /// For rustls.
    pub fn to_private_key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }

    /// The uncompressed point: 65 bytes, beginning with 4.
    pub fn public_point(&self) -> &[u8] {
        self.signing.public_key().as_ref()
    }

    /// The public key as a `SubjectPublicKeyInfo` in DER.
    pub fn public_key_info(&self) -> Vec<u8> {
        sequence(&[
            sequence(&[oid(OID_EC_PUBLIC_KEY), oid(OID_P256)]),
            bit_string(self.public_point()),
        ])
    }

    /// The signature in ASN.1 form, as certificates carry it.
    pub(crate) fn sign_asn1(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self
            .signing
            .sign(&self.random, message)
            .map_err(|error| Error::Key(error.to_string()))?;
        Ok(signature.as_ref().to_vec())
    }
}

pub(crate) fn signature_algorithm() -> Vec<u8> {
    sequence(&[oid(OID_ECDSA_SHA256)])
}

//! The keys of signed tokens: RSA, or ECDSA on P-256 or P-384, made here or brought by an operator in PEM.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde_json::{Value, json};
use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::der_writer::{bit_string, element, octet_string, oid, sequence, unsigned};
use crate::jwt::encode;
use crate::key::OID_EC_PUBLIC_KEY;
use crate::pem::{PemBlock, pem_blocks};
use crate::{Error, KeyPair};

const OID_RSA: &str = "1.2.840.113549.1.1.1";
/// A shorter RSA key is no protection.
const RSA_BITS_MIN: usize = 2048;
/// A longer RSA key is too slow to check every token with; ring refuses it too.
const RSA_BITS_MAX: usize = 8192;
/// A PEM file of keys holds at most this many.
const KEYS_MAX: usize = 64;

const SUPPORTED: &str = "RSA of 2048 to 4096 bits and ECDSA on P-256 and P-384 are supported; one is made with: \
     openssl genrsa -out FILE 2048";

/// Signs tokens. Its `Debug` shows nothing secret.
#[derive(Clone)]
pub struct SigningKey {
    private: Private,
    public: VerifyingKey,
    random: SystemRandom,
}

#[derive(Clone)]
enum Private {
    Ecdsa(Arc<EcdsaKeyPair>),
    Rsa(Arc<RsaKeyPair>),
}

/// Checks tokens: the public half of a key, with the name that tokens call it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    id: String,
    key: PublicKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PublicKey {
    /// The point is uncompressed: 4, x, y.
    Ecdsa { curve: Curve, point: Vec<u8> },
    /// Big-endian without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SigningKey({})", self.public.algorithm())
    }
}

impl SigningKey {
    /// The first private key of a PEM file: PKCS #1, SEC 1 or PKCS #8. Other blocks are skipped.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        for block in pem_blocks(text) {
            if let Some(key) = Self::from_block(&block)? {
                return Ok(key);
            }
        }
        Err(unusable("it holds no private key in PEM"))
    }

    /// The key with which this key's tokens are checked.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// The signature in the form that tokens carry (RFC 7518 §3.3, §3.4).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |error: ring::error::Unspecified| Error::Key(error.to_string());
        match &self.private {
            Private::Ecdsa(key) => {
                let signature = key.sign(&self.random, message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let padding = &signature::RSA_PKCS1_SHA256;
                key.sign(padding, &self.random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }

    /// `None`: the block is no private key.
    fn from_block(block: &PemBlock<'_>) -> Result<Option<Self>, Error> {
        let read: fn(&[u8]) -> Result<Self, Error> = match block.label {
            "RSA PRIVATE KEY" => |der| Self::rsa(RsaKeyPair::from_der(der)),
            "EC PRIVATE KEY" => Self::from_sec1,
            "PRIVATE KEY" => Self::from_pkcs8,
            "ENCRYPTED PRIVATE KEY" => |_der| Err(encrypted()),
            _ => return Ok(None),
        };
        // The old form of encryption stands in headers before the letters, which are no base64.
        read(block.der.as_deref().ok_or_else(encrypted)?).map(Some)
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let algorithm = pkcs8_algorithm(der)
            .map_err(|error| unusable(&format!("it is no key in PKCS #8: {error}")))?;
        match algorithm.oid.to_string().as_str() {
            OID_RSA => Self::rsa(RsaKeyPair::from_pkcs8(der)),
            OID_EC_PUBLIC_KEY => Self::ecdsa(Curve::of(&algorithm)?, der),
            other => Err(unusable(&format!("its algorithm is {other}"))),
        }
    }

    /// ring reads PKCS #8, which is the same in an envelope that names the curve.
    fn from_sec1(der: &[u8]) -> Result<Self, Error> {
        let in_envelope = |curve: Curve| {
            let algorithm = sequence(&[oid(OID_EC_PUBLIC_KEY), oid(curve.oid())]);
            sequence(&[unsigned(&[0]), algorithm, octet_string(der)])
        };
        Self::ecdsa(Curve::P256, &in_envelope(Curve::P256))
            .or_else(|_other_curve| Self::ecdsa(Curve::P384, &in_envelope(Curve::P384)))
    }

    fn ecdsa(curve: Curve, pkcs8: &[u8]) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(curve.signing(), pkcs8, &random)
            .map_err(|rejected| unusable(&format!("its ECDSA key was refused ({rejected})")))?;
        let point = key.public_key().as_ref().to_vec();
        Ok(Self {
            private: Private::Ecdsa(Arc::new(key)),
            public: VerifyingKey::new(PublicKey::Ecdsa { curve, point }),
            random,
        })
    }

    fn rsa(key: Result<RsaKeyPair, ring::error::KeyRejected>) -> Result<Self, Error> {
        let key =
            key.map_err(|rejected| unusable(&format!("its RSA key was refused ({rejected})")))?;
        let public = VerifyingKey::from_pkcs1(key.public_key().as_ref())?;
        Ok(Self {
            private: Private::Rsa(Arc::new(key)),
            public,
            random: SystemRandom::new(),
        })
    }
}

impl TryFrom<&KeyPair> for SigningKey {
    type Error = Error;

    fn try_from(key: &KeyPair) -> Result<Self, Error> {
        Self::from_pem(&key.to_pem())
    }
}

impl VerifyingKey {
    /// Every key of a PEM file, in order: public keys, certificates, and the public halves of private keys.
    ///
    /// Blocks of other kinds are skipped; a key that cannot be used is an error.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, Error> {
        let mut keys = Vec::new();
        for block in pem_blocks(text) {
            keys.extend(Self::from_block(&block)?);
            if keys.len() > KEYS_MAX {
                return Err(unusable(&format!("it holds more than {KEYS_MAX} keys")));
            }
        }
        if keys.is_empty() {
            return Err(unusable("it holds no public or private key in PEM"));
        }
        Ok(keys)
    }

    /// The name of this key in tokens and key sets: a hash, so that it gives nothing away.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The one algorithm (RFC 7518 §3.1) that this key is used with.
    pub fn algorithm(&self) -> &'static str {
        match self.key {
            PublicKey::Ecdsa { curve, .. } => curve.algorithm(),
            PublicKey::Rsa { .. } => "RS256",
        }
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            PublicKey::Ecdsa { curve, point } => {
                UnparsedPublicKey::new(curve.verification(), point)
                    .verify(message, signature)
                    .is_ok()
            }
            PublicKey::Rsa { modulus, exponent } => signature::RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
            .is_ok(),
        }
    }

    /// The key as a JSON Web Key (RFC 7517).
    pub(crate) fn to_json(&self) -> Value {
        match &self.key {
            PublicKey::Ecdsa { curve, point } => {
                let (x, y) = point[1..].split_at(curve.coordinate_bytes());
                json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": curve.name(),
                       "alg": curve.algorithm(), "x": encode(x), "y": encode(y)})
            }
            PublicKey::Rsa { modulus, exponent } => {
                json!({"use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256",
                       "n": encode(modulus), "e": encode(exponent)})
            }
        }
    }

    fn new(key: PublicKey) -> Self {
        Self {
            id: encode(digest(&SHA256, &key.public_key_info())),
            key,
        }
    }

    /// `None`: the block is no key.
    fn from_block(block: &PemBlock<'_>) -> Result<Option<Self>, Error> {
        let read: fn(&[u8]) -> Result<Self, Error> = match block.label {
            "PUBLIC KEY" => Self::from_public_key_info,
            "RSA PUBLIC KEY" => Self::from_pkcs1,
            "CERTIFICATE" => Self::from_certificate,
            _ => return Ok(SigningKey::from_block(block)?.map(|key| key.public)),
        };
        let der = block.der.as_deref();
        let der = der.ok_or_else(|| unusable(&format!("its {} is damaged", block.label)))?;
        read(der).map(Some)
    }

    fn from_certificate(der: &[u8]) -> Result<Self, Error> {
        let info = Certificate::from_der(der)
            .and_then(|certificate| {
                certificate
                    .tbs_certificate()
                    .subject_public_key_info()
                    .to_der()
            })
            .map_err(|error| Error::Certificate(error.to_string()))?;
        Self::from_public_key_info(&info)
    }

    fn from_public_key_info(der: &[u8]) -> Result<Self, Error> {
        let info = SubjectPublicKeyInfoOwned::from_der(der)
            .map_err(|error| unusable(&format!("its public key cannot be read: {error}")))?;
        let bytes = info.subject_public_key.as_bytes().unwrap_or_default();
        match info.algorithm.oid.to_string().as_str() {
            OID_RSA => Self::from_pkcs1(bytes),
            OID_EC_PUBLIC_KEY => Self::from_point(Curve::of(&info.algorithm)?, bytes),
            other => Err(unusable(&format!("the algorithm of a key is {other}"))),
        }
    }

    fn from_point(curve: Curve, point: &[u8]) -> Result<Self, Error> {
        if point.first() != Some(&4) || point.len() != 1 + 2 * curve.coordinate_bytes() {
            return Err(unusable(
                "the point of an ECDSA key is not an uncompressed one",
            ));
        }
        let point = point.to_vec();
        Ok(Self::new(PublicKey::Ecdsa { curve, point }))
    }

    fn from_pkcs1(der: &[u8]) -> Result<Self, Error> {
        let (modulus, exponent) = pkcs1_public(der)
            .map_err(|error| unusable(&format!("an RSA public key cannot be read: {error}")))?;
        let leading_zeros = modulus.first().map_or(0, |first| first.leading_zeros());
        let bits = modulus.len() * 8 - leading_zeros as usize;
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(unusable(&format!("an RSA key has {bits} bits")));
        }
        Ok(Self::new(PublicKey::Rsa { modulus, exponent }))
    }
}

impl PublicKey {
    /// The key as a `SubjectPublicKeyInfo` in DER.
    fn public_key_info(&self) -> Vec<u8> {
        match self {
            Self::Ecdsa { curve, point } => sequence(&[
                sequence(&[oid(OID_EC_PUBLIC_KEY), oid(curve.oid())]),
                bit_string(point),
            ]),
            Self::Rsa { modulus, exponent } => sequence(&[
                sequence(&[oid(OID_RSA), element(0x05, &[])]),
                bit_string(&sequence(&[unsigned(modulus), unsigned(exponent)])),
            ]),
        }
    }
}

impl Curve {
    fn of(algorithm: &AlgorithmIdentifierOwned) -> Result<Self, Error> {
        let named = algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok())
            .map(|curve| curve.to_string())
            .unwrap_or_default();
        [Self::P256, Self::P384]
            .into_iter()
            .find(|curve| curve.oid() == named)
            .ok_or_else(|| unusable(&format!("the curve of an ECDSA key is {named:?}")))
    }

    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    fn oid(self) -> &'static str {
        match self {
            Self::P256 => "1.2.840.10045.3.1.7",
            Self::P384 => "1.3.132.0.34",
        }
    }

    fn algorithm(self) -> &'static str {
        match self {
            Self::P256 => "ES256",
            Self::P384 => "ES384",
        }
    }

    fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED,
        }
    }
}

fn unusable(why: &str) -> Error {
    Error::TokenKey(format!("{why}; {SUPPORTED}"))
}

fn encrypted() -> Error {
    let advice = "it is encrypted or damaged; an encrypted key is decrypted with: \
                  openssl pkey -in FILE -out NEW-FILE";
    Error::TokenKey(advice.to_owned())
}

fn pkcs8_algorithm(der: &[u8]) -> x509_cert::der::Result<AlgorithmIdentifierOwned> {
    SliceReader::new(der)?.sequence(|inner| {
        let _version = u8::decode(inner)?;
        let algorithm = AlgorithmIdentifierOwned::decode(inner)?;
        // The key itself is ring's to read.
        inner.read_slice(inner.remaining_len())?;
        Ok(algorithm)
    })
}

fn pkcs1_public(der: &[u8]) -> x509_cert::der::Result<(Vec<u8>, Vec<u8>)> {
    let mut reader = SliceReader::new(der)?;
    let numbers = reader.sequence(|inner| -> x509_cert::der::Result<_> {
        let modulus = UintRef::decode(inner)?.as_bytes().to_vec();
        Ok((modulus, UintRef::decode(inner)?.as_bytes().to_vec()))
    })?;
    reader.finish()?;
    Ok(numbers)
}

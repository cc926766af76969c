//! Keys, certificates, certificate requests and signed tokens: what a cluster's identities are made of.
//!
//! Keys are ECDSA P-256; only an operator's keys for tokens may be others. Certificates are read with x509-cert and written by `der_writer`, because a subject must be
//! able to hold several organizations: they are Kubernetes' groups.

mod authority;
mod certificate;
mod der_writer;
mod error;
mod jwt;
mod key;
mod pem;
mod request;
mod token_key;

pub use authority::{CertificateAuthority, Profile, SubjectNames, roots_in_pem};
pub use certificate::{CertificateInfo, Subject};
pub use error::Error;
pub use jwt::{JwtSigner, JwtVerifier, decode_unverified_claims};
pub use key::KeyPair;
pub use pem::{decode_pem, encode_pem};
pub use request::{CertificateRequest, RequestedUsages};
pub use token_key::{SigningKey, VerifyingKey};

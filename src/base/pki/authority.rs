//! A certificate authority: issues certificates of a few fixed profiles.

use std::net::IpAddr;
use std::time::Duration;

use env::{Rng, Timestamp};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::der_writer::{
    bit_string, bit_string_with_unused, boolean_true, element, explicit, octet_string, oid,
    sequence, time, unsigned,
};
use crate::key::signature_algorithm;
use crate::pem::{decode_pem, encode_pem};
use crate::{CertificateInfo, Error, KeyPair, Subject};

const OID_KEY_USAGE: &str = "2.5.29.15";
const OID_BASIC_CONSTRAINTS: &str = "2.5.29.19";
const OID_EXTENDED_KEY_USAGE: &str = "2.5.29.37";
const OID_SUBJECT_ALT_NAME: &str = "2.5.29.17";
const OID_SUBJECT_KEY_ID: &str = "2.5.29.14";
const OID_AUTHORITY_KEY_ID: &str = "2.5.29.35";
const OID_SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
const OID_CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
/// A certificate begins this long before its issue, so that peers whose clocks are behind accept it.
const BACKDATE: Duration = Duration::from_secs(3600);

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Client,
    Server,
    ClientAndServer,
}

/// The names a server answers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectNames {
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug)]
pub struct CertificateAuthority {
    certificate: Vec<u8>,
    subject: Subject,
    key: KeyPair,
}

struct Body<'a> {
    issuer: &'a Subject,
    subject: &'a Subject,
    public_key_info: &'a [u8],
    not_before: Timestamp,
    not_after: Timestamp,
    extensions: Vec<Vec<u8>>,
}

impl CertificateAuthority {
    /// A new self-signed authority.
    pub fn generate(
        common_name: &str,
        now: Timestamp,
        life: Duration,
        rng: &dyn Rng,
    ) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let subject = Subject::new(common_name, &[]);
        let public_key_info = key.public_key_info();
        let key_id = key_id(&public_key_info);
        let body = Body {
            issuer: &subject,
            subject: &subject,
            public_key_info: &public_key_info,
            not_before: now.saturating_sub(BACKDATE),
            not_after: now.saturating_add(life),
            extensions: vec![
                // digitalSignature, keyEncipherment, keyCertSign.
                critical(OID_KEY_USAGE, &bit_string_with_unused(&[0b1010_0100], 2)),
                critical(OID_BASIC_CONSTRAINTS, &sequence(&[boolean_true()])),
                extension(OID_SUBJECT_KEY_ID, &octet_string(&key_id)),
            ],
        };
        let certificate = sign(&body, &key, rng)?;
        Ok(Self {
            certificate,
            subject,
            key,
        })
    }

    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let blocks = decode_pem("CERTIFICATE", certificate);
        let certificate = blocks.into_iter().next().ok_or(Error::Pem {
            label: "CERTIFICATE",
        })?;
        let info = CertificateInfo::from_der(&certificate)?;
        Ok(Self {
            certificate,
            subject: info.subject,
            key: KeyPair::from_pem(key)?,
        })
    }

    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    pub fn certificate_pem(&self) -> String {
        encode_pem("CERTIFICATE", &self.certificate)
    }

    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// A certificate in DER for the holder of `public_key_info`'s private key.
    pub fn issue(
        &self,
        subject: &Subject,
        names: &SubjectNames,
        public_key_info: &[u8],
        profile: Profile,
        (now, life): (Timestamp, Duration),
        rng: &dyn Rng,
    ) -> Result<Vec<u8>, Error> {
        let mut extensions = vec![
            // digitalSignature, keyEncipherment.
            critical(OID_KEY_USAGE, &bit_string_with_unused(&[0b1010_0000], 5)),
            extension(OID_EXTENDED_KEY_USAGE, &extended_key_usage(profile)),
            critical(OID_BASIC_CONSTRAINTS, &sequence(&[])),
            extension(
                OID_AUTHORITY_KEY_ID,
                &sequence(&[element(0x80, &key_id(&self.key.public_key_info()))]),
            ),
        ];
        if !names.dns_names.is_empty() || !names.addresses.is_empty() {
            extensions.push(extension(OID_SUBJECT_ALT_NAME, &alternative_names(names)));
        }
        let body = Body {
            issuer: &self.subject,
            subject,
            public_key_info,
            not_before: now.saturating_sub(BACKDATE),
            not_after: now.saturating_add(life),
            extensions,
        };
        sign(&body, &self.key, rng)
    }
}

fn extended_key_usage(profile: Profile) -> Vec<u8> {
    match profile {
        Profile::Client => sequence(&[oid(OID_CLIENT_AUTH)]),
        Profile::Server => sequence(&[oid(OID_SERVER_AUTH)]),
        Profile::ClientAndServer => sequence(&[oid(OID_CLIENT_AUTH), oid(OID_SERVER_AUTH)]),
    }
}

pub(crate) fn alternative_names(names: &SubjectNames) -> Vec<u8> {
    let dns_names = names
        .dns_names
        .iter()
        .map(|name| element(0x82, name.as_bytes()));
    let addresses = names.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => element(0x87, &address.octets()),
        IpAddr::V6(address) => element(0x87, &address.octets()),
    });
    sequence(&dns_names.chain(addresses).collect::<Vec<_>>())
}

pub(crate) fn extension(kind: &str, value: &[u8]) -> Vec<u8> {
    sequence(&[oid(kind), octet_string(value)])
}

fn critical(kind: &str, value: &[u8]) -> Vec<u8> {
    sequence(&[oid(kind), boolean_true(), octet_string(value)])
}

/// RFC 5280 §4.2.1.2: a digest of the key names it; nothing rests on its strength.
fn key_id(public_key_info: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, public_key_info)
        .as_ref()
        .to_vec()
}

fn sign(body: &Body<'_>, key: &KeyPair, rng: &dyn Rng) -> Result<Vec<u8>, Error> {
    let mut serial = [0u8; 16];
    rng.fill(&mut serial);
    // Positive, of constant length, never zero.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let signed = sequence(&[
        explicit(0, &unsigned(&[2])),
        unsigned(&serial),
        signature_algorithm(),
        body.issuer.to_der(),
        sequence(&[time(body.not_before), time(body.not_after)]),
        body.subject.to_der(),
        body.public_key_info.to_vec(),
        explicit(3, &sequence(&body.extensions)),
    ]);
    let signature = key.sign_asn1(&signed)?;
    Ok(sequence(&[
        signed,
        signature_algorithm(),
        bit_string(&signature),
    ]))
}

#[cfg(test)]
mod tests {
    use env::SeededRng;

    use super::*;

    #[test]
    fn an_issued_certificate_keeps_every_organization_and_name() {
        let rng = SeededRng::shared(1);
        let now = Timestamp::from_unix_seconds(1_800_000_000);
        let life = Duration::from_secs(86_400);
        let authority =
            CertificateAuthority::generate("combo-ca", now, life, &*rng).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let subject = Subject::new("system:node:a", &["system:nodes", "second"]);
        let names = SubjectNames {
            dns_names: vec!["a.example".to_owned()],
            addresses: vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([0u8; 16])],
        };
        let issued = authority
            .issue(
                &subject,
                &names,
                &key.public_key_info(),
                Profile::ClientAndServer,
                (now, life),
                &*rng,
            )
            .expect("a certificate");
        let info = CertificateInfo::from_der(&issued).expect("readable");
        assert_eq!(info.subject, subject);
        assert_eq!(info.dns_names, names.dns_names);
        assert_eq!(info.addresses, names.addresses);
        assert_eq!(info.public_key_info, key.public_key_info());
        assert!(!info.is_authority);
        assert_eq!(info.not_after, now.saturating_add(life));
        assert!(
            CertificateInfo::from_der(authority.certificate_der())
                .expect("readable")
                .is_authority
        );
    }

    #[test]
    fn rustls_accepts_the_chain_for_client_and_server() {
        use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
        let rng = SeededRng::shared(2);
        let now = Timestamp::from_unix_seconds(1_800_000_000);
        let life = Duration::from_secs(86_400);
        let authority =
            CertificateAuthority::generate("combo-ca", now, life, &*rng).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let names = SubjectNames {
            dns_names: vec!["localhost".to_owned()],
            addresses: vec![],
        };
        let issued = authority
            .issue(
                &Subject::new("a", &[]),
                &names,
                &key.public_key_info(),
                Profile::ClientAndServer,
                (now, life),
                &*rng,
            )
            .expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from(authority.certificate_der().to_vec()))
            .expect("a root");
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let roots = std::sync::Arc::new(roots);
        let at = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_100));
        let leaf = CertificateDer::from(issued);
        let server = rustls::client::WebPkiServerVerifier::builder_with_provider(
            roots.clone(),
            provider.clone(),
        )
        .build()
        .expect("a verifier");
        let name = ServerName::try_from("localhost").expect("a name");
        use rustls::client::danger::ServerCertVerifier as _;
        server
            .verify_server_cert(&leaf, &[], &name, &[], at)
            .expect("a good server certificate");
        let client = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider)
            .build()
            .expect("a verifier");
        client
            .verify_client_cert(&leaf, &[], at)
            .expect("a good client certificate");
    }
}

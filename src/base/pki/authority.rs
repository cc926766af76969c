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
/// What somebody asked for begins this long before its issue, so that peers whose clocks are behind accept it.
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

/// An authority that signs, and those before it that are still believed.
#[derive(Clone, Debug)]
pub struct CertificateAuthority {
    /// In DER: the one that signs, then how believers in other roots come to believe in it, and those roots.
    certificates: Vec<Vec<u8>>,
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
    /// A new self-signed authority. It is valid at every time that a machine of the cluster can have.
    pub fn generate(
        common_name: &str,
        now: Timestamp,
        life: Duration,
        rng: &dyn Rng,
    ) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let subject = Subject::new(common_name, &[]);
        let public_key_info = key.public_key_info();
        let body = Body {
            issuer: &subject,
            subject: &subject,
            public_key_info: &public_key_info,
            not_before: long_before(now),
            not_after: now.saturating_add(life),
            extensions: authority_extensions(&public_key_info),
        };
        let certificate = sign(&body, &key, rng)?;
        Ok(Self {
            certificates: vec![certificate],
            subject,
            key,
        })
    }

    /// From what [`CertificateAuthority::to_pem`] wrote, or an operator's chain: the certificate that signs first, its root among
    /// the others.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, Error> {
        let certificates = decode_pem("CERTIFICATE", certificates);
        let own = certificates.first().ok_or(Error::Pem {
            label: "CERTIFICATE",
        })?;
        let info = CertificateInfo::from_der(own)?;
        let key = KeyPair::from_pem(key)?;
        if !info.is_authority {
            return Err(Error::Certificate("it may sign nothing".to_owned()));
        }
        if info.public_key_info != key.public_key_info() {
            return Err(Error::Certificate("the key is of another one".to_owned()));
        }
        let authority = Self {
            certificates,
            subject: info.subject,
            key,
        };
        if authority.roots().next().is_none() {
            return Err(Error::Certificate("its root is not with it".to_owned()));
        }
        Ok(authority)
    }

    /// `next` in place of this one: believers in this one believe in it, and it says that this one is still believed.
    pub fn succeeded_by(&self, next: &Self, now: Timestamp, rng: &dyn Rng) -> Result<Self, Error> {
        let ends = |certificate: &[u8]| Ok(CertificateInfo::from_der(certificate)?.not_after);
        let (own, next_own) = (&self.certificates[0], &next.certificates[0]);
        let public_key_info = next.key.public_key_info();
        let mut extensions = authority_extensions(&public_key_info);
        extensions.push(self.authority_key_id());
        let cross = Body {
            issuer: &self.subject,
            subject: &next.subject,
            public_key_info: &public_key_info,
            not_before: long_before(now),
            not_after: ends(own)?.min(ends(next_own)?),
            extensions,
        };
        let cross = sign(&cross, &self.key, rng)?;
        let certificates = next.certificates.iter().chain([&cross]);
        let certificates = certificates.chain(&self.certificates).cloned();
        Ok(Self {
            certificates: certificates.collect(),
            ..next.clone()
        })
    }

    /// The same without those that have ended.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        let (own, others) = self.certificates.split_first().expect("the one that signs");
        let is_valid = |certificate: &&Vec<u8>| {
            CertificateInfo::from_der(certificate).is_ok_and(|info| info.not_after > now)
        };
        let others = others.iter().filter(is_valid);
        let certificates = std::iter::once(own).chain(others).cloned().collect();
        Self {
            certificates,
            ..self
        }
    }

    /// The certificate that signs.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificates[0]
    }

    /// Everything, as [`CertificateAuthority::from_pem`] reads it.
    pub fn to_pem(&self) -> String {
        pem(self.certificates.iter())
    }

    /// What this one signed is believed by who believes in the first of these. The others signed what may still be in use.
    pub fn trusted_der(&self) -> Vec<Vec<u8>> {
        self.roots().cloned().collect()
    }

    /// The same in PEM.
    pub fn trusted_pem(&self) -> String {
        pem(self.roots())
    }

    /// The root of what this one signs, in PEM: what tokens pin.
    pub fn root_pem(&self) -> String {
        pem(self.roots().take(1))
    }

    /// What stands behind a leaf in a chain, in PEM: the way to every root that is believed.
    pub fn chain_pem(&self) -> String {
        pem(self.certificates.iter().filter(|one| !is_root(one)))
    }

    /// Whether a certificate says that this one signed it, and not one before it.
    pub fn signed(&self, info: &CertificateInfo) -> bool {
        info.authority_key_id == Some(key_id(&self.key.public_key_info()))
    }

    fn roots(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.certificates.iter().filter(|one| is_root(one))
    }

    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    fn authority_key_id(&self) -> Vec<u8> {
        let key_id = key_id(&self.key.public_key_info());
        extension(OID_AUTHORITY_KEY_ID, &sequence(&[element(0x80, &key_id)]))
    }

    /// A certificate in DER for the holder of `public_key_info`'s private key. It is valid at every time until its end that a machine of
    /// the cluster can have, whichever way the clock was wrong that it was made by.
    pub fn issue(
        &self,
        subject: &Subject,
        names: &SubjectNames,
        public_key_info: &[u8],
        profile: Profile,
        (now, life): (Timestamp, Duration),
        rng: &dyn Rng,
    ) -> Result<Vec<u8>, Error> {
        let when = (long_before(now), now.saturating_add(life));
        self.issue_between(subject, names, public_key_info, profile, when, rng)
    }

    /// The same that begins about now: programs of others reckon with the whole of a certificate's life.
    pub fn issue_from_now(
        &self,
        subject: &Subject,
        names: &SubjectNames,
        public_key_info: &[u8],
        profile: Profile,
        (now, life): (Timestamp, Duration),
        rng: &dyn Rng,
    ) -> Result<Vec<u8>, Error> {
        let when = (now.saturating_sub(BACKDATE), now.saturating_add(life));
        self.issue_between(subject, names, public_key_info, profile, when, rng)
    }

    fn issue_between(
        &self,
        subject: &Subject,
        names: &SubjectNames,
        public_key_info: &[u8],
        profile: Profile,
        (not_before, not_after): (Timestamp, Timestamp),
        rng: &dyn Rng,
    ) -> Result<Vec<u8>, Error> {
        let mut extensions = vec![
            // digitalSignature, keyEncipherment.
            critical(OID_KEY_USAGE, &bit_string_with_unused(&[0b1010_0000], 5)),
            extension(OID_EXTENDED_KEY_USAGE, &extended_key_usage(profile)),
            critical(OID_BASIC_CONSTRAINTS, &sequence(&[])),
            self.authority_key_id(),
        ];
        if !names.dns_names.is_empty() || !names.addresses.is_empty() {
            extensions.push(extension(OID_SUBJECT_ALT_NAME, &alternative_names(names)));
        }
        let body = Body {
            issuer: &self.subject,
            subject,
            public_key_info,
            not_before,
            not_after,
            extensions,
        };
        sign(&body, &self.key, rng)
    }
}

/// No clock in a cluster is earlier, also on a machine whose own began at 1970: see `env::FlooredClock`.
fn long_before(now: Timestamp) -> Timestamp {
    now.saturating_sub(BACKDATE).min(Timestamp::OLDEST_BUILD)
}

/// The roots in a file of certificates, in PEM; the first is the root of what is signed now.
pub fn roots_in_pem(text: &str) -> Vec<String> {
    let certificates = decode_pem("CERTIFICATE", text);
    let roots = certificates.iter().filter(|one| is_root(one));
    roots.map(|root| pem(std::iter::once(root))).collect()
}

fn is_root(certificate: &[u8]) -> bool {
    CertificateInfo::from_der(certificate).is_ok_and(|info| info.is_root)
}

fn pem<'a>(certificates: impl Iterator<Item = &'a Vec<u8>>) -> String {
    certificates
        .map(|certificate| encode_pem("CERTIFICATE", certificate))
        .collect()
}

fn authority_extensions(public_key_info: &[u8]) -> Vec<Vec<u8>> {
    vec![
        // digitalSignature, keyEncipherment, keyCertSign.
        critical(OID_KEY_USAGE, &bit_string_with_unused(&[0b1010_0100], 2)),
        critical(OID_BASIC_CONSTRAINTS, &sequence(&[boolean_true()])),
        extension(OID_SUBJECT_KEY_ID, &octet_string(&key_id(public_key_info))),
    ]
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
        assert!(!info.is_authority && !info.is_root && authority.signed(&info));
        assert_eq!(info.not_after, now.saturating_add(life));
        assert!(
            CertificateInfo::from_der(authority.certificate_der())
                .expect("readable")
                .is_authority
        );
    }

    fn verified(roots: Vec<Vec<u8>>, chain: &str, at: Timestamp) -> bool {
        use rustls::client::danger::ServerCertVerifier as _;
        use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
        let mut store = rustls::RootCertStore::empty();
        for root in roots {
            store.add(CertificateDer::from(root)).expect("a root");
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
            std::sync::Arc::new(store),
            provider,
        )
        .build()
        .expect("a verifier");
        let chain: Vec<_> = decode_pem("CERTIFICATE", chain)
            .into_iter()
            .map(CertificateDer::from)
            .collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let at = u64::try_from(at.unix_seconds()).expect("after 1970");
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        verifier
            .verify_server_cert(&chain[0], &chain[1..], &name, &[], at)
            .is_ok()
    }

    #[test]
    fn believers_in_an_authority_believe_in_its_successors_until_it_ends() {
        let rng = SeededRng::shared(3);
        let now = Timestamp::from_unix_seconds(1_800_000_000);
        let (year, day) = (Duration::from_hours(24 * 365), Duration::from_hours(24));
        let authority = |name, life| CertificateAuthority::generate(name, now, life, &*rng);
        let old = authority("old", year).expect("an authority");
        let leaf = |authority: &CertificateAuthority| {
            let names = SubjectNames {
                dns_names: vec!["localhost".to_owned()],
                addresses: vec![],
            };
            let key = KeyPair::generate().expect("a key").public_key_info();
            let subject = Subject::new("a", &[]);
            let when = (now, 3 * year);
            let issued = authority.issue(&subject, &names, &key, Profile::Server, when, &*rng);
            encode_pem("CERTIFICATE", &issued.expect("a leaf")) + &authority.chain_pem()
        };
        let before = leaf(&old);
        let second = authority("second", 2 * year).expect("an authority");
        let second = old.succeeded_by(&second, now, &*rng).expect("crossed");
        let third = authority("third", 3 * year).expect("an authority");
        let third = second.succeeded_by(&third, now, &*rng).expect("crossed");
        let third = CertificateAuthority::from_pem(&third.to_pem(), &third.key().to_pem());
        let third = third.expect("what was written is read");
        assert_eq!(third.trusted_der().len(), 3);
        assert_eq!(
            third.root_pem(),
            encode_pem("CERTIFICATE", third.certificate_der())
        );
        for (issuer, in_whom) in [
            (&second, &old),
            (&third, &old),
            (&third, &second),
            (&third, &third),
        ] {
            assert!(verified(in_whom.trusted_der(), &leaf(issuer), now));
        }
        let alone = vec![third.certificate_der().to_vec()];
        assert!(verified(alone.clone(), &leaf(&third), now));
        assert!(!verified(alone, &before, now), "the old one is not crossed");
        assert!(verified(third.trusted_der(), &before, now));
        let later = now.saturating_add(year + day);
        assert!(!verified(old.trusted_der(), &leaf(&third), later));
        let third = third.at(later);
        assert_eq!(third.trusted_der().len(), 2, "the old one has ended");
        assert!(verified(second.trusted_der(), &leaf(&third), later));
    }

    #[test]
    fn what_cannot_sign_is_no_authority() {
        let rng = SeededRng::shared(4);
        let now = Timestamp::from_unix_seconds(1_800_000_000);
        let life = Duration::from_hours(24);
        let authority =
            CertificateAuthority::generate("ca", now, life, &*rng).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let issued = authority
            .issue(
                &Subject::new("a", &[]),
                &SubjectNames::default(),
                &key.public_key_info(),
                Profile::Server,
                (now, life),
                &*rng,
            )
            .expect("a leaf");
        let leaf = encode_pem("CERTIFICATE", &issued);
        for (certificate, key, why) in [
            (leaf.as_str(), key.to_pem(), "may sign nothing"),
            (&authority.to_pem(), key.to_pem(), "of another one"),
            ("", key.to_pem(), "CERTIFICATE"),
            (&authority.to_pem(), "no key".to_owned(), "PRIVATE KEY"),
        ] {
            let error = CertificateAuthority::from_pem(certificate, &key).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_clock_that_is_behind_accepts_what_a_right_one_made() {
        let rng = SeededRng::shared(5);
        let now = Timestamp::from_unix_seconds(1_800_000_000);
        let life = Duration::from_hours(24);
        let authority = CertificateAuthority::generate("ca", now, life, &*rng).expect("one");
        let key = KeyPair::generate().expect("a key").public_key_info();
        let (subject, names) = (Subject::new("a", &[]), SubjectNames::default());
        let of = |der: &[u8]| CertificateInfo::from_der(der).expect("a certificate");
        let when = (now, life);
        let own = authority.issue(&subject, &names, &key, Profile::Client, when, &*rng);
        let asked = authority.issue_from_now(&subject, &names, &key, Profile::Client, when, &*rng);
        let (own, asked) = (of(&own.expect("issued")), of(&asked.expect("issued")));
        let root = of(authority.certificate_der());
        assert_eq!(root.not_before, Timestamp::OLDEST_BUILD);
        assert_eq!(own.not_before, Timestamp::OLDEST_BUILD);
        assert_eq!(asked.not_before, now.saturating_sub(BACKDATE));
        assert_eq!(
            (own.not_after, asked.not_after),
            (root.not_after, root.not_after)
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

//! What a certificate says.

use std::net::IpAddr;

use env::Timestamp;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, SubjectAltName};
use x509_cert::name::Name;

use crate::Error;
use crate::der_writer::{oid, sequence, set_of_one, utf8_string};

const OID_COMMON_NAME: &str = "2.5.4.3";
const OID_ORGANIZATION: &str = "2.5.4.10";

/// A distinguished name as Kubernetes reads it: the common name is the user, the organizations are the groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

impl Subject {
    pub fn new(common_name: &str, organizations: &[&str]) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organizations: organizations
                .iter()
                .map(|&organization| organization.to_owned())
                .collect(),
        }
    }

    pub(crate) fn from_name(name: &Name) -> Self {
        let mut subject = Self::default();
        for attribute in name
            .as_ref()
            .iter()
            .flat_map(x509_cert::name::RelativeDistinguishedName::iter)
        {
            let Ok(text) = std::str::from_utf8(attribute.value.value()) else {
                continue;
            };
            match attribute.oid.to_string().as_str() {
                OID_COMMON_NAME => text.clone_into(&mut subject.common_name),
                OID_ORGANIZATION => subject.organizations.push(text.to_owned()),
                _ => {}
            }
        }
        subject
    }

    pub(crate) fn to_der(&self) -> Vec<u8> {
        let attribute =
            |kind: &str, text: &str| set_of_one(&sequence(&[oid(kind), utf8_string(text)]));
        let mut parts: Vec<Vec<u8>> = self
            .organizations
            .iter()
            .map(|organization| attribute(OID_ORGANIZATION, organization))
            .collect();
        if !self.common_name.is_empty() {
            parts.push(attribute(OID_COMMON_NAME, &self.common_name));
        }
        sequence(&parts)
    }
}

/// The parts of a certificate that identities and renewals are decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    pub subject: Subject,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub is_authority: bool,
    /// Who issued it has the same name: it is the root of a chain.
    pub is_root: bool,
    /// Names the key that signed it.
    pub authority_key_id: Option<Vec<u8>>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// The `SubjectPublicKeyInfo` in DER.
    pub public_key_info: Vec<u8>,
    pub serial: Vec<u8>,
}

impl CertificateInfo {
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let unreadable = |error: x509_cert::der::Error| Error::Certificate(error.to_string());
        let certificate = Certificate::from_der(der).map_err(unreadable)?;
        let body = certificate.tbs_certificate();
        let constraints = body
            .get_extension::<BasicConstraints>()
            .map_err(unreadable)?;
        let names = body.get_extension::<SubjectAltName>().map_err(unreadable)?;
        let names = names.map(|(_, names)| names.0).unwrap_or_default();
        let issued_by = body
            .get_extension::<AuthorityKeyIdentifier>()
            .map_err(unreadable)?;
        let authority_key_id = issued_by.and_then(|(_, named)| named.key_identifier);
        let moment = |time: x509_cert::time::Time| {
            Timestamp::from_unix_seconds(
                i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX),
            )
        };
        Ok(Self {
            subject: Subject::from_name(body.subject()),
            not_before: moment(body.validity().not_before),
            not_after: moment(body.validity().not_after),
            is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
            is_root: body.issuer() == body.subject(),
            authority_key_id: authority_key_id.map(|id| id.as_bytes().to_vec()),
            dns_names: dns_names(&names),
            addresses: addresses(&names),
            public_key_info: body
                .subject_public_key_info()
                .to_der()
                .map_err(unreadable)?,
            serial: body.serial_number().as_bytes().to_vec(),
        })
    }
}

pub(crate) fn dns_names(names: &[GeneralName]) -> Vec<String> {
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
            _ => None,
        })
        .collect()
}

pub(crate) fn addresses(names: &[GeneralName]) -> Vec<IpAddr> {
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
                four if four.len() == 4 => <[u8; 4]>::try_from(four).ok().map(IpAddr::from),
                sixteen => <[u8; 16]>::try_from(sixteen).ok().map(IpAddr::from),
            },
            _ => None,
        })
        .collect()
}

//! Certificate signing requests (PKCS #10, RFC 2986).

use std::net::IpAddr;

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};
use x509_cert::request::CertReq;

use crate::authority::{SubjectNames, alternative_names, extension};
use crate::certificate::{addresses, dns_names};
use crate::der_writer::{bit_string, element, oid, sequence, set_of, unsigned};
use crate::key::signature_algorithm;
use crate::pem::{decode_pem, encode_pem};
use crate::{Error, KeyPair, Subject};

const OID_EXTENSION_REQUEST: &str = "1.2.840.113549.1.9.14";
const OID_SUBJECT_ALT_NAME: &str = "2.5.29.17";

/// What a request asks for. Reading one proves that the asker holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    pub subject: Subject,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// E-mail addresses, URIs and other names, of which no signer of ours signs any.
    pub other_names: usize,
    pub public_key_info: Vec<u8>,
    pub usages: RequestedUsages,
}

/// The extended key usages in a request, as dotted identifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedUsages(pub Vec<String>);

impl CertificateRequest {
    /// A new request in PEM.
    pub fn create(subject: &Subject, names: &SubjectNames, key: &KeyPair) -> Result<String, Error> {
        let mut attributes = Vec::new();
        if !names.dns_names.is_empty() || !names.addresses.is_empty() {
            let extensions =
                sequence(&[extension(OID_SUBJECT_ALT_NAME, &alternative_names(names))]);
            attributes.push(sequence(&[
                oid(OID_EXTENSION_REQUEST),
                set_of(vec![extensions]),
            ]));
        }
        let body = sequence(&[
            unsigned(&[0]),
            subject.to_der(),
            key.public_key_info(),
            element(0xa0, &attributes.concat()),
        ]);
        let signature = key.sign_asn1(&body)?;
        Ok(encode_pem(
            "CERTIFICATE REQUEST",
            &sequence(&[body, signature_algorithm(), bit_string(&signature)]),
        ))
    }

    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let blocks = decode_pem("CERTIFICATE REQUEST", text);
        Self::from_der(blocks.first().ok_or(Error::Pem {
            label: "CERTIFICATE REQUEST",
        })?)
    }

    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let unreadable = |error: x509_cert::der::Error| Error::Request(error.to_string());
        let request = CertReq::from_der(der).map_err(unreadable)?;
        verify_signature(&request)?;
        let mut names: Vec<GeneralName> = Vec::new();
        let mut usages = RequestedUsages::default();
        for requested in requested_extensions(&request)? {
            if requested.extn_id.to_string() == OID_SUBJECT_ALT_NAME {
                names.extend(
                    SubjectAltName::from_der(requested.extn_value.as_bytes())
                        .map_err(unreadable)?
                        .0,
                );
            }
            if let Ok(extended) = ExtendedKeyUsage::from_der(requested.extn_value.as_bytes()) {
                usages.0.extend(extended.0.iter().map(ToString::to_string));
            }
        }
        let (dns_names, addresses) = (dns_names(&names), addresses(&names));
        Ok(Self {
            subject: Subject::from_name(&request.info.subject),
            other_names: names.len() - dns_names.len() - addresses.len(),
            dns_names,
            addresses,
            public_key_info: request.info.public_key.to_der().map_err(unreadable)?,
            usages,
        })
    }
}

fn requested_extensions(request: &CertReq) -> Result<Vec<Extension>, Error> {
    let mut extensions = Vec::new();
    for attribute in request.info.attributes.iter() {
        if attribute.oid.to_string() != OID_EXTENSION_REQUEST {
            continue;
        }
        for value in attribute.values.iter() {
            let list: Vec<Extension> = value
                .decode_as()
                .map_err(|error: x509_cert::der::Error| Error::Request(error.to_string()))?;
            extensions.extend(list);
        }
    }
    Ok(extensions)
}

fn verify_signature(request: &CertReq) -> Result<(), Error> {
    let algorithm: &dyn VerificationAlgorithm = match request.algorithm.oid.to_string().as_str() {
        crate::key::OID_ECDSA_SHA256 => &ECDSA_P256_SHA256_ASN1,
        "1.2.840.10045.4.3.3" => &ECDSA_P384_SHA384_ASN1,
        "1.3.101.112" => &ED25519,
        "1.2.840.113549.1.1.11" => &RSA_PKCS1_2048_8192_SHA256,
        "1.2.840.113549.1.1.12" => &RSA_PKCS1_2048_8192_SHA384,
        "1.2.840.113549.1.1.13" => &RSA_PKCS1_2048_8192_SHA512,
        other => {
            return Err(Error::Request(format!(
                "signature algorithm {other} is not supported"
            )));
        }
    };
    let key = request.info.public_key.subject_public_key.raw_bytes();
    let message = request
        .info
        .to_der()
        .map_err(|error| Error::Request(error.to_string()))?;
    UnparsedPublicKey::new(algorithm, key)
        .verify(&message, request.signature.raw_bytes())
        .map_err(|_unspecified| Error::RequestSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_proves_its_key_and_carries_its_names() {
        let key = KeyPair::generate().expect("a key");
        let names = SubjectNames {
            dns_names: vec!["a".to_owned()],
            addresses: vec![IpAddr::from([10, 0, 0, 1])],
        };
        let subject = Subject::new("system:node:a", &["system:nodes"]);
        let pem = CertificateRequest::create(&subject, &names, &key).expect("a request");
        let request = CertificateRequest::from_pem(&pem).expect("readable");
        assert_eq!(request.subject, subject);
        assert_eq!(
            (request.dns_names, request.addresses),
            (names.dns_names, names.addresses)
        );
        assert_eq!(request.public_key_info, key.public_key_info());

        let mut der = decode_pem("CERTIFICATE REQUEST", &pem).remove(0);
        let at = der
            .windows(4)
            .position(|window| window == b"node")
            .expect("the name is inside");
        der[at] = b'm';
        assert_eq!(
            CertificateRequest::from_der(&der),
            Err(Error::RequestSignature)
        );
    }
}

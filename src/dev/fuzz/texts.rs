//! Short texts: tokens, certificates, names of images, selectors, quantities.

use apimachinery::{FieldSelector, LabelSelector, Quantity};
use images::{Digest, Reference, Registries};
use pki::{
    CertificateInfo, CertificateRequest, JwtSigner, JwtVerifier, KeyPair, SigningKey, Subject,
    SubjectNames, VerifyingKey, decode_pem, decode_unverified_claims,
};
use serde_json::json;

use super::targets::{Fate, Judge, Samples};

/// A reader of text; what is no UTF-8 never reaches it in a server either.
fn of_text(judge: impl Fn(&str) -> Fate + 'static) -> Judge {
    Box::new(move |bytes| match std::str::from_utf8(bytes) {
        Ok(text) => judge(text),
        Err(_) => Fate::Refused,
    })
}

fn texts(samples: &[&str]) -> Samples {
    samples.iter().map(|text| (*text).into()).collect()
}

pub(super) fn token() -> anyhow::Result<(Samples, Judge)> {
    let key = SigningKey::from_pem(&KeyPair::generate()?.to_pem())?;
    let verifier = JwtVerifier::new(vec![key.verifying_key().clone()]);
    let signer = JwtSigner::new(key);
    let claims = json!({"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:a:b", "aud": ["x"],
        "exp": 4_000_000_000_u64, "kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "b", "uid": "u"}}});
    let token = signer.sign(&claims)?;
    let genuine = token.clone();
    let judge = of_text(move |text| {
        let read = decode_unverified_claims(text);
        let verified = verifier.verify(text);
        if verified.is_ok() {
            // The last character of a base64 text has bits that mean nothing; all before them are signed.
            let same = text.rsplit_once('.').map(|parts| parts.0);
            assert_eq!(same, genuine.rsplit_once('.').map(|parts| parts.0));
        }
        if read.is_some() {
            Fate::Understood
        } else {
            Fate::Refused
        }
    });
    Ok((vec![token.into()], judge))
}

pub(super) fn certificate() -> anyhow::Result<(Samples, Judge)> {
    let key = KeyPair::generate()?;
    let subject = Subject::new("system:node:n", &["system:nodes"]);
    let request = CertificateRequest::create(&subject, &SubjectNames::default(), &key)?;
    let judge: Judge = Box::new(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        drop(KeyPair::from_pem(&text));
        drop(VerifyingKey::all_from_pem(&text));
        for der in decode_pem("CERTIFICATE REQUEST", &text) {
            drop(CertificateInfo::from_der(&der));
        }
        drop(CertificateInfo::from_der(bytes));
        let raw = CertificateRequest::from_der(bytes);
        Fate::of(&raw.or_else(|_| CertificateRequest::from_pem(&text)))
    });
    let ders = decode_pem("CERTIFICATE REQUEST", &request);
    Ok((ders.into_iter().chain([request.into()]).collect(), judge))
}

pub(super) fn reference() -> anyhow::Result<(Samples, Judge)> {
    let samples = texts(&[
        "busybox",
        "registry.k8s.io/pause:3.10",
        "localhost:5000/a/b__c/d-e:v1.2_3",
        "[::1]:5000/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ]);
    let judge = of_text(|text| {
        drop(Digest::parse(text));
        let read = Reference::parse(text);
        if let Ok(reference) = &read {
            let again = Reference::parse(&reference.to_string());
            assert_eq!(
                again.as_ref().ok(),
                Some(reference),
                "its own name is no name"
            );
        }
        Fate::of(&read)
    });
    Ok((samples, judge))
}

pub(super) fn registries() -> anyhow::Result<(Samples, Judge)> {
    let samples = texts(&[
        "mirrors:\n  docker.io:\n    endpoint: [\"https://mirror:5000/v2\"]\n    rewrite: {\"^(.*)$\": \"x/$1\"}\nconfigs:\n  \"mirror:5000\":\n    auth: {username: a, password: b}\n",
    ]);
    Ok((samples, of_text(|text| Fate::of(&Registries::parse(text)))))
}

pub(super) fn selector() -> anyhow::Result<(Samples, Judge)> {
    let samples = texts(&[
        "app=web,tier!=cache",
        "a in (b,c),d notin (e),!f,g",
        "n>5,m<7,example.com/x==y",
        "status.phase=Running,metadata.name!=a\\,b",
    ]);
    let judge = of_text(|text| {
        let (labels, fields) = (LabelSelector::parse(text), FieldSelector::parse(text));
        if labels.is_ok() || fields.is_ok() {
            Fate::Understood
        } else {
            Fate::Refused
        }
    });
    Ok((samples, judge))
}

pub(super) fn quantity() -> anyhow::Result<(Samples, Judge)> {
    let samples = texts(&["1", "100m", "1.5Gi", "12e6", "-3n", "0.000001E", "5Pi"]);
    let judge = of_text(|text| {
        drop(schema::parse_duration(text));
        let _moment = env::Timestamp::parse(text);
        let read = Quantity::parse(text);
        if let Ok(quantity) = read {
            let _ = (quantity.units(), quantity.millis());
            let _ = quantity
                .saturating_add(quantity)
                .saturating_sub(Quantity::from_units(1));
        }
        Fate::of(&read)
    });
    Ok((samples, judge))
}

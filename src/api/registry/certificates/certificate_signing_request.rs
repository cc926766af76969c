//! Certificate Signing Requests of `certificates.k8s.io/v1`.

use super::signer_names::signer_name;
use crate::validation::changes::json;
use crate::validation::{found, one_of, path};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use pki::{CertificateInfo, CertificateRequest, decode_pem};
use std::collections::BTreeSet;

use crate::cells;
use crate::{Column, SelectableField, Strategy, Subresource};

/// Objects of kind `CertificateSigningRequest`.
#[derive(Debug)]
pub struct CertificateSigningRequests;

impl Strategy for CertificateSigningRequests {
    type Kind = CertificateSigningRequest;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::age(),
        Column::text("SignerName", |request, _| {
            cells::text_or(Some(&request.spec.signer_name), cells::NONE)
        }),
        Column::text("Requestor", |request, _| {
            request.spec.username.clone().unwrap_or_default().into()
        }),
        Column::text("RequestedDuration", |request, _| {
            match request.spec.expiration_seconds {
                Some(seconds) => crate::human_duration(u64::try_from(seconds).unwrap_or(0)).into(),
                None => cells::NONE.into(),
            }
        }),
        Column::text("Condition", |request, _| condition(request).into()),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["csr"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Approval, Subresource::Status];
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[SelectableField::text(
        "spec.signerName",
        &["spec.signerName"],
    )];

    fn prepare_for_update(
        request: &mut CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) {
        // What is asked for never changes, and what became of it is said in the subresources.
        request.spec.clone_from(&old.spec);
        request.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(
        request: &mut CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) {
        for kind in ["Approved", "Denied"] {
            keep_conditions(request, old, kind);
        }
    }

    fn validate_create(request: &CertificateSigningRequest) -> FieldErrors {
        let spec = &request.spec;
        let path = FieldPath::new("spec");
        found(|errors| {
            if let Some(why) = request_fault(&spec.request.0) {
                errors.push(FieldError::invalid(
                    &path.child("request"),
                    json(&spec.request),
                    why,
                ));
            }
            usages(
                errors,
                spec.usages.as_deref().unwrap_or_default(),
                &path.child("usages"),
            );
            let signer_path = path.child("signerName");
            if spec.signer_name == LEGACY_SIGNER {
                let why = "the legacy signerName is not allowed via this API version";
                errors.push(FieldError::invalid(
                    &signer_path,
                    spec.signer_name.as_str(),
                    why,
                ));
            } else {
                signer_name(errors, &spec.signer_name, &signer_path);
            }
            if let Some(seconds) = spec
                .expiration_seconds
                .filter(|seconds| *seconds < SECONDS_MIN)
            {
                let why = "may not specify a duration less than 600 seconds (10 minutes)";
                errors.push(FieldError::invalid(
                    &path.child("expirationSeconds"),
                    seconds,
                    why,
                ));
            }
        })
    }

    fn validate_status_update(
        request: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) -> FieldErrors {
        found(|errors| {
            conditions(errors, request);
            judgement_stays(errors, request, old, &["Approved", "Denied", "Failed"]);
            let certificate = |request: &CertificateSigningRequest| {
                request
                    .status
                    .as_ref()
                    .and_then(|status| status.certificate.clone())
                    .unwrap_or_default()
                    .0
            };
            let (new, old) = (certificate(request), certificate(old));
            let path = path(&["status", "certificate"]);
            if let Some(why) = certificate_fault(&new) {
                errors.push(FieldError::invalid(&path, "<certificate data>", why));
            }
            if !old.is_empty() && new != old {
                let why = "updates may not modify existing certificate content";
                errors.push(FieldError::forbidden(&path, why));
            }
        })
    }

    fn validate_subresource_update(
        _subresource: Subresource,
        request: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) -> FieldErrors {
        found(|errors| {
            conditions(errors, request);
            judgement_stays(errors, request, old, &["Approved", "Denied", "Failed"]);
        })
    }
}

/// What has become of the request; a denial outweighs an approval.
fn condition(request: &CertificateSigningRequest) -> String {
    let status = request.status.as_ref();
    let conditions = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|condition| condition.type_ == kind);
    let mut text = if has("Denied") {
        "Denied".to_owned()
    } else if has("Approved") {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if has("Failed") {
        text.push_str(",Failed");
    }
    if status
        .and_then(|status| status.certificate.as_ref())
        .is_some_and(|certificate| !certificate.0.is_empty())
    {
        text.push_str(",Issued");
    }
    text
}

/// The status may not touch how the request was judged: that is what `/approval` is for.
fn keep_conditions(
    request: &mut CertificateSigningRequest,
    old: &CertificateSigningRequest,
    kind: &str,
) {
    let kept: Vec<_> = old
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .filter(|condition| condition.type_ == kind)
        .cloned()
        .collect();
    let slots: Vec<_> = request
        .status
        .iter_mut()
        .flat_map(|status| status.conditions.iter_mut().flatten())
        .filter(|condition| condition.type_ == kind)
        .collect();
    if kept.len() == slots.len() {
        slots
            .into_iter()
            .zip(kept)
            .for_each(|(slot, condition)| *slot = condition);
    }
}

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
/// Seconds a certificate is asked for, at least.
const SECONDS_MIN: i32 = 600;
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What is wrong with a request: it must be one, with a signature by the key in it.
fn request_fault(pem: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(pem);
    if labels(&text).next() != Some("CERTIFICATE REQUEST") {
        return Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    }
    CertificateRequest::from_pem(&text)
        .err()
        .map(|error| error.to_string())
}

/// What is wrong with an issued certificate: PEM blocks, each a certificate.
fn certificate_fault(pem: &[u8]) -> Option<String> {
    if pem.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(pem);
    if let Some(other) = labels(&text).find(|label| *label != "CERTIFICATE") {
        return Some(format!(
            "only CERTIFICATE PEM blocks are allowed, found {other:?}"
        ));
    }
    let ders = decode_pem("CERTIFICATE", &text);
    if ders.is_empty() {
        return Some("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    ders.iter()
        .find_map(|der| CertificateInfo::from_der(der).err())
        .map(|error| error.to_string())
}

/// The labels of a text's PEM blocks (RFC 7468), in order.
fn labels(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        line.trim_end()
            .strip_prefix("-----BEGIN ")?
            .strip_suffix("-----")
    })
}

fn usages(errors: &mut FieldErrors, usages: &[String], path: &FieldPath) {
    if usages.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    for (index, usage) in usages.iter().enumerate() {
        one_of(errors, usage, &USAGES, &path.index(index));
    }
    let mut seen = BTreeSet::new();
    for (index, usage) in usages
        .iter()
        .enumerate()
        .filter(|(_, usage)| !seen.insert(*usage))
    {
        errors.push(FieldError::duplicate(&path.index(index), usage.as_str()));
    }
}

fn conditions(errors: &mut FieldErrors, request: &CertificateSigningRequest) {
    let all = request
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let path = path(&["status", "conditions"]);
    let mut seen = BTreeSet::new();
    for (index, condition) in all.enumerate() {
        let (kind, item_path) = (condition.type_.as_str(), path.index(index));
        if kind.is_empty() {
            errors.push(FieldError::required(&item_path.child("type"), ""));
        }
        let is_judgement = matches!(kind, "Approved" | "Denied" | "Failed");
        let allowed: &[&str] = if is_judgement {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        match condition.status.as_str() {
            "" => errors.push(FieldError::required(&item_path.child("status"), "")),
            status => one_of(errors, status, allowed, &item_path.child("status")),
        }
        let opposite = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if seen.contains(opposite) {
            errors.push(FieldError::invalid(
                &path,
                kind,
                "Approved and Denied conditions are mutually exclusive",
            ));
        }
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&item_path.child("type"), kind));
        }
    }
}

/// Once judged, always judged.
fn judgement_stays(
    errors: &mut FieldErrors,
    request: &CertificateSigningRequest,
    old: &CertificateSigningRequest,
    kinds: &[&str],
) {
    let count = |request: &CertificateSigningRequest, kind: &str| {
        let all = request
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        all.filter(|condition| condition.type_ == kind).count()
    };
    for kind in kinds
        .iter()
        .filter(|kind| count(request, kind) < count(old, kind))
    {
        let why = format!("updates may not remove a condition of type {kind:?}");
        errors.push(FieldError::forbidden(&path(&["status", "conditions"]), why));
    }
}

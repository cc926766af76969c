//! Certificate Signing Requests of `certificates.k8s.io/v1`.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use crate::{SelectableField, Strategy, Subresource};

/// Objects of kind `CertificateSigningRequest`.
#[derive(Debug)]
pub struct CertificateSigningRequests;

impl Strategy for CertificateSigningRequests {
    type Kind = CertificateSigningRequest;
    const SHORT_NAMES: &'static [&'static str] = &["csr"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Approval, Subresource::Status];
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("spec.signerName", &["spec.signerName"]),
    ];
}

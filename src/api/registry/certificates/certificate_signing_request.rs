//! Certificate Signing Requests of `certificates.k8s.io/v1`.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use crate::{Column, SelectableField, Strategy, Subresource};
use crate::cells;

/// Objects of kind `CertificateSigningRequest`.
#[derive(Debug)]
pub struct CertificateSigningRequests;

impl Strategy for CertificateSigningRequests {
    type Kind = CertificateSigningRequest;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::age(),
        Column::text("SignerName", |request, _| cells::text_or(Some(&request.spec.signer_name), cells::NONE)),
        Column::text("Requestor", |request, _| request.spec.username.clone().unwrap_or_default().into()),
        Column::text("RequestedDuration", |request, _| match request.spec.expiration_seconds {
            Some(seconds) => crate::human_duration(u64::try_from(seconds).unwrap_or(0)).into(),
            None => cells::NONE.into(),
        }),
        Column::text("Condition", |request, _| condition(request).into()),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["csr"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Approval, Subresource::Status];
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("spec.signerName", &["spec.signerName"]),
    ];

    fn prepare_for_update(request: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
        // What is asked for never changes, and what became of it is said in the subresources.
        request.spec.clone_from(&old.spec);
        request.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(request: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
        for kind in ["Approved", "Denied"] {
            keep_conditions(request, old, kind);
        }
    }
}

/// What has become of the request; a denial outweighs an approval.
fn condition(request: &CertificateSigningRequest) -> String {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
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
    if status.and_then(|status| status.certificate.as_ref()).is_some_and(|certificate| !certificate.0.is_empty()) {
        text.push_str(",Issued");
    }
    text
}

/// The status may not touch how the request was judged: that is what `/approval` is for.
fn keep_conditions(request: &mut CertificateSigningRequest, old: &CertificateSigningRequest, kind: &str) {
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
        slots.into_iter().zip(kept).for_each(|(slot, condition)| *slot = condition);
    }
}

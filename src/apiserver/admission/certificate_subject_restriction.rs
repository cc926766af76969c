//! CertificateSubjectRestriction: nobody asks for a client certificate of the group that may do everything.

use apimachinery::{ApiError, Object};
use async_trait::async_trait;
use auth::MASTERS_GROUP;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::CertificateRequest;

use crate::certificate_signers::{is_about, signer_name};
use crate::{AdmissionRequest, Operation, Plugin};

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

#[derive(Debug)]
pub(crate) struct CertificateSubjectRestriction;

/// Whether a signing request asks for the group; what cannot be read is refused by validation.
fn asks_for_masters(object: &Object) -> bool {
    let Ok(pem) = STANDARD.decode(object.text_at(&["spec", "request"])) else {
        return false;
    };
    let request = CertificateRequest::from_pem(&String::from_utf8_lossy(&pem));
    request.is_ok_and(|request| {
        request
            .subject
            .organizations
            .iter()
            .any(|group| group == MASTERS_GROUP)
    })
}

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Vec<String>, ApiError> {
        if request.operation != Operation::Create || !is_about(request, "") {
            return Ok(Vec::new());
        }
        let Some(object) = request.object.as_deref() else {
            return Ok(Vec::new());
        };
        if signer_name(object) == CLIENT_SIGNER && asks_for_masters(object) {
            return Err(request.forbidden(format!(
                "use of {CLIENT_SIGNER} signer with {MASTERS_GROUP} group is not allowed"
            )));
        }
        Ok(Vec::new())
    }
}

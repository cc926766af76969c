//! CertificateApproval: only who may approve for a signer gives a verdict on its requests.

use std::sync::Arc;

use apimachinery::ApiError;
use async_trait::async_trait;
use auth::Authorizer;

use crate::certificate_signers::{is_about, may, signer_name};
use crate::{AdmissionRequest, Operation, Plugin};

#[derive(Debug)]
pub(crate) struct CertificateApproval {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateApproval {
    pub(crate) fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }
}

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Vec<String>, ApiError> {
        if request.operation != Operation::Update || !is_about(request, "approval") {
            return Ok(Vec::new());
        }
        let Some(old) = request.old else {
            return Ok(Vec::new());
        };
        let signer = signer_name(old);
        if may(&*self.authorizer, request, "approve", &signer).await {
            return Ok(Vec::new());
        }
        Err(request.forbidden(format!(
            "user not permitted to approve requests with signerName {signer:?}"
        )))
    }
}

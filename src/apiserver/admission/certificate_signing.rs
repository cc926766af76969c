//! CertificateSigning: only who may sign for a signer fills in a certificate or tells that signing failed.

use std::sync::Arc;

use apimachinery::ApiError;
use async_trait::async_trait;
use auth::Authorizer;

use crate::certificate_signers::{is_about, may, signer_name};
use crate::{AdmissionRequest, Operation, Plugin};

#[derive(Debug)]
pub(crate) struct CertificateSigning {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateSigning {
    pub(crate) fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Vec<String>, ApiError> {
        if request.operation != Operation::Update || !is_about(request, "status") {
            return Ok(Vec::new());
        }
        let (Some(old), Some(new)) = (request.old, request.object.as_deref()) else {
            return Ok(Vec::new());
        };
        let same = |field: &str| old.at(&["status", field]) == new.at(&["status", field]);
        if same("certificate") && same("conditions") {
            return Ok(Vec::new());
        }
        let signer = signer_name(old);
        if may(&*self.authorizer, request, "sign", &signer).await {
            return Ok(Vec::new());
        }
        Err(request.forbidden(format!(
            "user not permitted to sign requests with signerName {signer:?}"
        )))
    }
}

//! Persistent Volume Claims of `v1`.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::{DeleteAnswer, Strategy, Subresource};
use crate::pod_template::{default_claim_spec, default_text};

/// Objects of kind `PersistentVolumeClaim`.
#[derive(Debug)]
pub struct PersistentVolumeClaims;

impl Strategy for PersistentVolumeClaims {
    type Kind = PersistentVolumeClaim;
    const SHORT_NAMES: &'static [&'static str] = &["pvc"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(claim: &mut PersistentVolumeClaim) {
        default_text(&mut claim.status.get_or_insert_default().phase, "Pending");
        claim.spec.iter_mut().for_each(default_claim_spec);
    }
}

//! Resource Claims of `resource.k8s.io/v1`.

use super::validate_claim;
use crate::validation::changes::immutable;
use crate::validation::found;
use apimachinery::{FieldErrors, FieldPath};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimSpec};

use crate::pod_template::default_text;
use crate::status::keep_metadata;
use crate::{Column, DeleteAnswer, StatusMetadata, Strategy, Subresource};

/// Objects of kind `ResourceClaim`.
#[derive(Debug)]
pub struct ResourceClaims;

impl Strategy for ResourceClaims {
    type Kind = ResourceClaim;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("State", |claim, _| state(claim).into()),
        Column::age(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(claim: &mut ResourceClaim) {
        default_claim_spec(&mut claim.spec);
    }

    fn prepare_for_status_update(claim: &mut ResourceClaim, old: &ResourceClaim) {
        keep_metadata(&mut claim.metadata, &old.metadata);
    }

    fn validate(claim: &ResourceClaim) -> FieldErrors {
        found(|errors| validate_claim(errors, &claim.spec, &FieldPath::new("spec")))
    }

    fn validate_update(claim: &ResourceClaim, old: &ResourceClaim) -> FieldErrors {
        found(|errors| immutable(errors, &claim.spec, &old.spec, &FieldPath::new("spec")))
    }
}

/// Requests ask for exactly one device unless they say otherwise.
pub(super) fn default_claim_spec(spec: &mut ResourceClaimSpec) {
    let requests = spec
        .devices
        .iter_mut()
        .flat_map(|devices| devices.requests.iter_mut().flatten());
    for request in requests {
        if let Some(exactly) = &mut request.exactly {
            default_count(&mut exactly.allocation_mode, &mut exactly.count);
        }
        for alternative in request.first_available.iter_mut().flatten() {
            default_count(&mut alternative.allocation_mode, &mut alternative.count);
        }
    }
}

fn default_count(mode: &mut Option<String>, count: &mut Option<i64>) {
    const EXACT_COUNT: &str = "ExactCount";
    default_text(mode, EXACT_COUNT);
    if mode.as_deref() == Some(EXACT_COUNT) && count.unwrap_or(0) == 0 {
        *count = Some(1);
    }
}

fn state(claim: &ResourceClaim) -> String {
    let mut states = Vec::new();
    let deleted = claim.metadata.deletion_timestamp.is_some();
    if deleted {
        states.push("deleted");
    }
    match claim
        .status
        .as_ref()
        .filter(|status| status.allocation.is_some())
    {
        Some(status) => {
            states.push("allocated");
            if status
                .reserved_for
                .as_ref()
                .is_some_and(|consumers| !consumers.is_empty())
            {
                states.push("reserved");
            }
        }
        None if !deleted => states.push("pending"),
        None => {}
    }
    states.join(",")
}

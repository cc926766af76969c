//! Resource Claims of `resource.k8s.io/v1`.

use k8s_openapi::api::resource::v1::ResourceClaim;

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

    fn prepare_for_status_update(claim: &mut ResourceClaim, old: &ResourceClaim) {
        keep_metadata(&mut claim.metadata, &old.metadata);
    }
}

fn state(claim: &ResourceClaim) -> String {
    let mut states = Vec::new();
    let deleted = claim.metadata.deletion_timestamp.is_some();
    if deleted {
        states.push("deleted");
    }
    match claim.status.as_ref().filter(|status| status.allocation.is_some()) {
        Some(status) => {
            states.push("allocated");
            if status.reserved_for.as_ref().is_some_and(|consumers| !consumers.is_empty()) {
                states.push("reserved");
            }
        }
        None if !deleted => states.push("pending"),
        None => {}
    }
    states.join(",")
}

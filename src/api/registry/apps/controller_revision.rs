//! Controller Revisions of `apps/v1`.

use k8s_openapi::api::apps::v1::ControllerRevision;

use crate::Strategy;

/// Objects of kind `ControllerRevision`.
#[derive(Debug)]
pub struct ControllerRevisions;

impl Strategy for ControllerRevisions {
    type Kind = ControllerRevision;
}

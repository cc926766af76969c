//! Volume Attachments of `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::VolumeAttachment;

use crate::{DeleteAnswer, Permission, Strategy, Subresource};

/// Objects of kind `VolumeAttachment`.
#[derive(Debug)]
pub struct VolumeAttachments;

impl Strategy for VolumeAttachments {
    type Kind = VolumeAttachment;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

//! Volume Attachments of `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::VolumeAttachment;

use crate::status::keep_metadata;
use crate::{Column, DeleteAnswer, Permission, StatusMetadata, Strategy, Subresource};

/// Objects of kind `VolumeAttachment`.
#[derive(Debug)]
pub struct VolumeAttachments;

impl Strategy for VolumeAttachments {
    type Kind = VolumeAttachment;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column { format: "name", ..Column::text("Attacher", |attachment, _| attachment.spec.attacher.clone().into()) },
        Column::text("PV", |attachment, _| attachment.spec.source.persistent_volume_name.clone().unwrap_or_default().into()),
        Column::text("Node", |attachment, _| attachment.spec.node_name.clone().into()),
        Column::boolean("Attached", |attachment, _| attachment.status.as_ref().is_some_and(|status| status.attached).into()),
        Column::age(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn prepare_for_status_update(attachment: &mut VolumeAttachment, old: &VolumeAttachment) {
        keep_metadata(&mut attachment.metadata, &old.metadata);
    }
}

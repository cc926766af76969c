//! Volume Attachments of `storage.k8s.io/v1`.

use crate::core::persistent_volume_validation::inline_volume;
use crate::validation::changes::immutable;
use crate::validation::{found, names};
use apimachinery::{FieldError, FieldErrors, FieldPath};
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
        Column {
            format: "name",
            ..Column::text("Attacher", |attachment, _| {
                attachment.spec.attacher.clone().into()
            })
        },
        Column::text("PV", |attachment, _| {
            attachment
                .spec
                .source
                .persistent_volume_name
                .clone()
                .unwrap_or_default()
                .into()
        }),
        Column::text("Node", |attachment, _| {
            attachment.spec.node_name.clone().into()
        }),
        Column::boolean("Attached", |attachment, _| {
            attachment
                .status
                .as_ref()
                .is_some_and(|status| status.attached)
                .into()
        }),
        Column::age(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn prepare_for_status_update(attachment: &mut VolumeAttachment, old: &VolumeAttachment) {
        keep_metadata(&mut attachment.metadata, &old.metadata);
    }

    fn validate(attachment: &VolumeAttachment) -> FieldErrors {
        const EXACTLY_ONE: &str =
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        let spec = &attachment.spec;
        let path = FieldPath::new("spec");
        found(|errors| {
            names::csi_driver(errors, &spec.attacher, &path.child("attacher"));
            let source_path = path.child("source");
            match (
                &spec.source.inline_volume_spec,
                &spec.source.persistent_volume_name,
            ) {
                (None, None) => errors.push(FieldError::required(&source_path, EXACTLY_ONE)),
                (Some(_), Some(_)) => errors.push(FieldError::forbidden(&source_path, EXACTLY_ONE)),
                (None, Some(name)) if name.is_empty() => {
                    let why = "must specify non empty persistentVolumeName";
                    errors.push(FieldError::required(
                        &source_path.child("persistentVolumeName"),
                        why,
                    ));
                }
                (Some(inline), None) => {
                    inline_volume(errors, inline, &source_path.child("inlineVolumeSpec"));
                }
                (None, Some(_)) => (),
            }
            names::dns_subdomain(errors, &spec.node_name, &path.child("nodeName"));
            if let Some(name) = &spec.source.persistent_volume_name {
                names::dns_subdomain(
                    errors,
                    name,
                    &FieldPath::new("spec.source.persistentVolumeName"),
                );
            }
        })
    }

    fn validate_update(attachment: &VolumeAttachment, old: &VolumeAttachment) -> FieldErrors {
        found(|errors| immutable(errors, &attachment.spec, &old.spec, &FieldPath::new("spec")))
    }
}

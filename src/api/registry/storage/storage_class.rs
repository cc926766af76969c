//! Storage Classes of `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use crate::{Column, DeleteAnswer, Strategy};
use crate::cells;

/// Objects of kind `StorageClass`.
#[derive(Debug)]
pub struct StorageClasses;

impl Strategy for StorageClasses {
    type Kind = StorageClass;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column { cell: |class, _| default_marked_name(class), ..Column::name() },
        Column::text("Provisioner", |class, _| class.provisioner.clone().into()),
        Column::text("ReclaimPolicy", |class, _| class.reclaim_policy.as_deref().unwrap_or("Delete").into()),
        Column::text("VolumeBindingMode", |class, _| class.volume_binding_mode.as_deref().unwrap_or("Immediate").into()),
        Column::text("AllowVolumeExpansion", |class, _| class.allow_volume_expansion.unwrap_or(false).into()),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["sc"];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(class: &mut StorageClass) {
        class.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        class.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }
}

const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const IS_DEFAULT_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";

fn default_marked_name(class: &StorageClass) -> Value {
    let beta = class.metadata.annotations.as_ref().and_then(|annotations| annotations.get(IS_DEFAULT_BETA));
    let key = if beta.is_some_and(|value| value == "true") { IS_DEFAULT_BETA } else { IS_DEFAULT };
    cells::name_of_default(&class.metadata, key)
}

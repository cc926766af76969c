//! Storage Classes of `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::StorageClass;

use crate::{DeleteAnswer, Strategy};

/// Objects of kind `StorageClass`.
#[derive(Debug)]
pub struct StorageClasses;

impl Strategy for StorageClasses {
    type Kind = StorageClass;
    const SHORT_NAMES: &'static [&'static str] = &["sc"];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(class: &mut StorageClass) {
        class.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        class.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }
}

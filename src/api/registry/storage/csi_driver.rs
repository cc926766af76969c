//! CSIDrivers of `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::CSIDriver;

use crate::{DeleteAnswer, Generation, Permission, Strategy};

/// Objects of kind `CSIDriver`.
#[derive(Debug)]
pub struct CSIDrivers;

impl Strategy for CSIDrivers {
    type Kind = CSIDriver;
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(driver: &mut CSIDriver) {
        let spec = &mut driver.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.fs_group_policy.get_or_insert_with(|| "ReadWriteOnceWithFSType".to_owned());
        if spec.volume_lifecycle_modes.as_ref().is_none_or(Vec::is_empty) {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
    }
}

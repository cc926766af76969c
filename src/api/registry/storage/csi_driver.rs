//! CSIDrivers of `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::CSIDriver;

use crate::{Column, DeleteAnswer, Generation, Permission, Strategy};
use crate::cells;

/// Objects of kind `CSIDriver`.
#[derive(Debug)]
pub struct CSIDrivers;

impl Strategy for CSIDrivers {
    type Kind = CSIDriver;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::boolean("AttachRequired", |driver, _| driver.spec.attach_required.unwrap_or(true).into()),
        Column::boolean("PodInfoOnMount", |driver, _| driver.spec.pod_info_on_mount.unwrap_or(false).into()),
        Column::boolean("StorageCapacity", |driver, _| driver.spec.storage_capacity.unwrap_or(false).into()),
        Column::text("TokenRequests", |driver, _| match &driver.spec.token_requests {
            Some(requests) => requests.iter().map(|request| request.audience.as_str()).collect::<Vec<_>>().join(",").into(),
            None => cells::UNSET.into(),
        }),
        Column::boolean("RequiresRepublish", |driver, _| driver.spec.requires_republish.unwrap_or(false).into()),
        Column::text("Modes", |driver, _| {
            let modes = driver.spec.volume_lifecycle_modes.as_ref().map(|modes| modes.join(","));
            cells::text_or(modes.as_deref(), cells::NONE)
        }),
        Column::age(),
    ];
    const GENERATION: Generation = Generation::SpecFromNone;
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

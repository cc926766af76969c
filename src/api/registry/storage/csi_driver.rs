//! CSIDrivers of `storage.k8s.io/v1`.

use crate::validation::changes::immutable;
use crate::validation::{found, one_of, path};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::storage::v1::CSIDriver;
use std::collections::BTreeSet;

use crate::cells;
use crate::{Column, DeleteAnswer, Generation, Permission, Strategy};

/// Objects of kind `CSIDriver`.
#[derive(Debug)]
pub struct CSIDrivers;

impl Strategy for CSIDrivers {
    type Kind = CSIDriver;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::boolean("AttachRequired", |driver, _| {
            driver.spec.attach_required.unwrap_or(true).into()
        }),
        Column::boolean("PodInfoOnMount", |driver, _| {
            driver.spec.pod_info_on_mount.unwrap_or(false).into()
        }),
        Column::boolean("StorageCapacity", |driver, _| {
            driver.spec.storage_capacity.unwrap_or(false).into()
        }),
        Column::text("TokenRequests", |driver, _| {
            match &driver.spec.token_requests {
                Some(requests) => requests
                    .iter()
                    .map(|request| request.audience.as_str())
                    .collect::<Vec<_>>()
                    .join(",")
                    .into(),
                None => cells::UNSET.into(),
            }
        }),
        Column::boolean("RequiresRepublish", |driver, _| {
            driver.spec.requires_republish.unwrap_or(false).into()
        }),
        Column::text("Modes", |driver, _| {
            let modes = driver
                .spec
                .volume_lifecycle_modes
                .as_ref()
                .map(|modes| modes.join(","));
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
        spec.fs_group_policy
            .get_or_insert_with(|| "ReadWriteOnceWithFSType".to_owned());
        if spec
            .volume_lifecycle_modes
            .as_ref()
            .is_none_or(Vec::is_empty)
        {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
    }

    fn validate(driver: &CSIDriver) -> FieldErrors {
        let spec = &driver.spec;
        let path = FieldPath::new("spec");
        found(|errors| {
            let required = [
                (spec.attach_required, "attachedRequired"),
                (spec.pod_info_on_mount, "podInfoOnMount"),
                (spec.storage_capacity, "storageCapacity"),
            ];
            for (_, field) in required.iter().filter(|(value, _)| value.is_none()) {
                errors.push(FieldError::required(&path.child(field), ""));
            }
            if let Some(policy) = &spec.fs_group_policy {
                one_of(
                    errors,
                    policy,
                    &["File", "None", "ReadWriteOnceWithFSType"],
                    &path.child("fsGroupPolicy"),
                );
            }
            tokens(errors, driver, &path.child("tokenRequests"));
            for mode in spec.volume_lifecycle_modes.iter().flatten() {
                one_of(
                    errors,
                    mode,
                    &["Persistent", "Ephemeral"],
                    &path.child("volumeLifecycleModes"),
                );
            }
            if spec.se_linux_mount.is_none() {
                errors.push(FieldError::required(&path.child("seLinuxMount"), ""));
            }
            if let Some(seconds) = spec
                .node_allocatable_update_period_seconds
                .filter(|seconds| *seconds < 10)
            {
                let path = path.child("nodeAllocatableUpdatePeriodSeconds");
                errors.push(FieldError::invalid(
                    &path,
                    seconds,
                    "must be greater than or equal to 10 seconds",
                ));
            }
        })
    }

    fn validate_update(driver: &CSIDriver, old: &CSIDriver) -> FieldErrors {
        let (new, old) = (&driver.spec, &old.spec);
        found(|errors| {
            immutable(
                errors,
                &new.attach_required,
                &old.attach_required,
                &path(&["spec", "attachedRequired"]),
            );
            let path = path(&["spec", "volumeLifecycleModes"]);
            immutable(
                errors,
                &new.volume_lifecycle_modes,
                &old.volume_lifecycle_modes,
                &path,
            );
        })
    }
}

/// Seconds a token for a driver lives, at least and at most.
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

fn tokens(errors: &mut FieldErrors, driver: &CSIDriver, path: &FieldPath) {
    let mut taken = BTreeSet::new();
    for (index, request) in driver.spec.token_requests.iter().flatten().enumerate() {
        let path = path.index(index);
        if !taken.insert(&request.audience) {
            errors.push(FieldError::duplicate(
                &path.child("audience"),
                request.audience.as_str(),
            ));
            continue;
        }
        let Some(seconds) = request.expiration_seconds else {
            continue;
        };
        let path = path.child("expirationSeconds");
        if seconds < TOKEN_SECONDS_MIN {
            let why = "may not specify a duration less than 10 minutes";
            errors.push(FieldError::invalid(&path, seconds, why));
        }
        if seconds > TOKEN_SECONDS_MAX {
            let why = "may not specify a duration larger than 2^32 seconds";
            errors.push(FieldError::invalid(&path, seconds, why));
        }
    }
}

//! Kinds of the group `storage`, one file each.

pub mod csi_driver;
pub mod csi_node;
pub mod csi_storage_capacity;
pub mod storage_class;
pub mod volume_attachment;
pub mod volume_attributes_class;

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldErrors, FieldPath};

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MayBeEmpty {
    Yes,
    No,
}

/// What a class tells its driver.
fn parameters(
    errors: &mut FieldErrors,
    parameters: Option<&BTreeMap<String, String>>,
    may_be_empty: MayBeEmpty,
    path: &FieldPath,
) {
    let count = parameters.map_or(0, BTreeMap::len);
    if count > PARAMETERS_MAX {
        errors.push(FieldError::too_long(path, PARAMETERS_MAX as i64));
        return;
    }
    let all = || parameters.into_iter().flatten();
    if all().any(|(key, _)| key.is_empty()) {
        errors.push(FieldError::invalid(path, "", "field can not be empty."));
    }
    if all()
        .map(|(key, value)| key.len() + value.len())
        .sum::<usize>()
        > PARAMETERS_BYTES_MAX
    {
        errors.push(FieldError::too_long(path, PARAMETERS_BYTES_MAX as i64));
    }
    if count == 0 && may_be_empty == MayBeEmpty::No {
        errors.push(FieldError::required(
            path,
            "must contain at least one key/value pair",
        ));
    }
}

//! Config Maps of `v1`.

use crate::validation::{found, names};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::{Column, Strategy};
use std::collections::BTreeMap;

/// Objects of kind `ConfigMap`.
#[derive(Debug)]
pub struct ConfigMaps;

impl Strategy for ConfigMaps {
    type Kind = ConfigMap;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Data", |map, _| {
            (map.data.as_ref().map_or(0, BTreeMap::len)
                + map.binary_data.as_ref().map_or(0, BTreeMap::len))
            .into()
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["cm"];

    fn validate(map: &ConfigMap) -> FieldErrors {
        let mut bytes = 0;
        found(|errors| {
            for (key, value) in map.data.iter().flatten() {
                let path = FieldPath::new("data").key(key);
                names::config_key(errors, key, &path);
                if map
                    .binary_data
                    .as_ref()
                    .is_some_and(|data| data.contains_key(key))
                {
                    errors.push(FieldError::invalid(
                        &path,
                        key.as_str(),
                        "duplicate of key present in binaryData",
                    ));
                }
                bytes += value.len();
            }
            for (key, value) in map.binary_data.iter().flatten() {
                names::config_key(errors, key, &FieldPath::new("binaryData").key(key));
                bytes += value.0.len();
            }
            if bytes > CONTENT_BYTES_MAX {
                errors.push(FieldError::too_long(
                    &FieldPath::root(),
                    CONTENT_BYTES_MAX as i64,
                ));
            }
        })
    }

    fn validate_update(map: &ConfigMap, old: &ConfigMap) -> FieldErrors {
        found(|errors| {
            if old.immutable == Some(true) {
                stays_immutable(errors, map.immutable);
                unchanged_content(errors, "data", &map.data, &old.data);
                unchanged_content(errors, "binaryData", &map.binary_data, &old.binary_data);
            }
        })
    }
}

/// Bytes of all values together.
pub(super) const CONTENT_BYTES_MAX: usize = 1024 * 1024;

const IS_FROZEN: &str = "field is immutable when `immutable` is set";

/// What was once immutable is so for ever.
pub(super) fn stays_immutable(errors: &mut FieldErrors, immutable: Option<bool>) {
    if immutable != Some(true) {
        errors.push(FieldError::forbidden(
            &FieldPath::new("immutable"),
            IS_FROZEN,
        ));
    }
}

pub(super) fn unchanged_content<T: PartialEq>(
    errors: &mut FieldErrors,
    field: &str,
    new: &Option<BTreeMap<String, T>>,
    old: &Option<BTreeMap<String, T>>,
) {
    let is_empty =
        |content: &Option<BTreeMap<String, T>>| content.as_ref().is_none_or(BTreeMap::is_empty);
    if new != old && !(is_empty(new) && is_empty(old)) {
        errors.push(FieldError::forbidden(&FieldPath::new(field), IS_FROZEN));
    }
}

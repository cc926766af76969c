//! Config Maps of `v1`.

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
            (map.data.as_ref().map_or(0, BTreeMap::len) + map.binary_data.as_ref().map_or(0, BTreeMap::len)).into()
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["cm"];
}

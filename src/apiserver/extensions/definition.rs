//! A custom resource definition, read and ready to be served.

use std::collections::BTreeMap;

use apimachinery::GroupVersionKind;
use schema::Structural;
use serde::Deserialize;
use serde_json::Value;

/// What of a definition says how its resources are served.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Definition {
    pub metadata: Metadata,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: String,
    pub uid: String,
    pub deletion_timestamp: Option<String>,
    pub finalizers: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub group: String,
    pub names: Names,
    pub scope: String,
    pub versions: Vec<Version>,
    pub preserve_unknown_fields: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Names {
    pub plural: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub singular: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<String>,
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub list_kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Version {
    pub name: String,
    pub served: bool,
    pub storage: bool,
    pub deprecated: bool,
    pub deprecation_warning: Option<String>,
    pub schema: Option<VersionSchema>,
    pub subresources: Subresources,
    pub additional_printer_columns: Vec<PrinterColumn>,
    pub selectable_fields: Vec<SelectableField>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct VersionSchema {
    #[serde(rename = "openAPIV3Schema")]
    pub open_api: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Subresources {
    pub status: Option<Value>,
    pub scale: Option<Scale>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Scale {
    pub spec_replicas_path: String,
    pub status_replicas_path: String,
    pub label_selector_path: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrinterColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i32,
    pub json_path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SelectableField {
    pub json_path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    #[serde(deserialize_with = "null_is_empty")]
    pub conditions: Vec<BTreeMap<String, Value>>,
    pub accepted_names: Names,
    #[serde(deserialize_with = "null_is_empty")]
    pub stored_versions: Vec<String>,
}

/// Lists that every definition has are written as null while they are empty.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Why a version of a definition cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    #[error("its schema is not structural: {0}")]
    Schema(#[from] schema::StructuralError),
    #[error("it has no version that is stored")]
    NoStorageVersion,
}

impl Definition {
    pub fn is_being_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub fn storage_version(&self) -> Option<&Version> {
        self.spec.versions.iter().find(|version| version.storage)
    }

    /// Whether a condition of this kind is true.
    pub fn has_condition(&self, kind: &str) -> bool {
        self.status.conditions.iter().any(|condition| {
            condition.get("type").is_some_and(|value| value == kind)
                && condition.get("status").is_some_and(|value| value == "True")
        })
    }

    pub fn kind_in(&self, version: &str) -> GroupVersionKind {
        GroupVersionKind::new(
            self.spec.group.clone(),
            version.to_owned(),
            self.spec.names.kind.clone(),
        )
    }
}

impl Version {
    /// The schema; without one everything is allowed.
    pub fn structural(&self) -> Result<Structural, DefinitionError> {
        match &self.schema {
            Some(schema) => Ok(Structural::from_json(&schema.open_api)?),
            None => Ok(Structural {
                preserve_unknown_fields: true,
                ..Structural::default()
            }),
        }
    }
}

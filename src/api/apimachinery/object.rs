//! An object in flight: one JSON tree with faces on what all objects have.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{GroupVersion, GroupVersionKind, ObjectKey, from_json, to_json};

/// An object as a tree, on its way in or changed in place. At rest objects are bytes, never trees.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object(pub Map<String, Value>);

/// The part of an owner reference that ownership rules read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

impl Object {
    pub fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self(map)),
            _ => None,
        }
    }

    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub fn from_slice(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The object as a tree, from any serializable form; `None` if it is not a JSON object.
    pub fn from_typed<T: Serialize>(typed: &T) -> Option<Self> {
        serde_json::from_slice(&to_json(typed).ok()?).ok()
    }

    pub fn to_typed<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        from_json(&serde_json::to_vec(&self.0)?)
    }

    pub fn api_version(&self) -> &str {
        self.text("apiVersion")
    }

    pub fn kind(&self) -> &str {
        self.text("kind")
    }

    pub fn group_version_kind(&self) -> GroupVersionKind {
        GroupVersion::parse(self.api_version()).kind(self.kind().to_owned())
    }

    pub fn set_group_version_kind(&mut self, kind: &GroupVersionKind) {
        self.0
            .insert("apiVersion".into(), kind.api_version().into());
        self.0
            .insert("kind".into(), kind.kind.clone().into_owned().into());
    }

    fn text(&self, field: &str) -> &str {
        self.0
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub fn metadata(&self) -> Option<&Map<String, Value>> {
        self.0.get("metadata").and_then(Value::as_object)
    }

    /// The metadata, made empty if it is missing or not an object.
    pub fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        let metadata = self
            .0
            .entry("metadata")
            .or_insert_with(|| Value::Object(Map::new()));
        if !metadata.is_object() {
            *metadata = Value::Object(Map::new());
        }
        metadata
            .as_object_mut()
            .expect("it was just made an object")
    }

    /// A text of the metadata; empty if missing.
    pub fn metadata_text(&self, field: &str) -> &str {
        self.metadata()
            .and_then(|metadata| metadata.get(field))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Sets a text of the metadata, or removes the field when `text` is empty.
    pub fn set_metadata_text(&mut self, field: &str, text: impl Into<String>) {
        let text = text.into();
        if text.is_empty() {
            self.metadata_mut().remove(field);
        } else {
            self.metadata_mut()
                .insert(field.into(), Value::String(text));
        }
    }

    pub fn name(&self) -> &str {
        self.metadata_text("name")
    }

    pub fn namespace(&self) -> &str {
        self.metadata_text("namespace")
    }

    pub fn uid(&self) -> &str {
        self.metadata_text("uid")
    }

    pub fn resource_version(&self) -> &str {
        self.metadata_text("resourceVersion")
    }

    pub fn key(&self) -> ObjectKey {
        ObjectKey::namespaced(self.namespace(), self.name())
    }

    pub fn generation(&self) -> i64 {
        self.metadata()
            .and_then(|metadata| metadata.get("generation"))
            .and_then(Value::as_i64)
            .unwrap_or(0)
    }

    pub fn set_generation(&mut self, generation: i64) {
        self.metadata_mut()
            .insert("generation".into(), generation.into());
    }

    pub fn is_being_deleted(&self) -> bool {
        !self.metadata_text("deletionTimestamp").is_empty()
    }

    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata_map("labels")
    }

    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata_map("annotations")
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata()?.get("labels")?.get(key)?.as_str()
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata()?.get("annotations")?.get(key)?.as_str()
    }

    fn metadata_map(&self, field: &str) -> impl Iterator<Item = (&str, &str)> {
        self.metadata()
            .and_then(|metadata| metadata.get(field))
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| value.as_str().map(|value| (key.as_str(), value)))
    }

    pub fn finalizers(&self) -> Vec<&str> {
        self.metadata()
            .and_then(|metadata| metadata.get("finalizers"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    /// Replaces the finalizers; an empty list removes the field.
    pub fn set_finalizers(&mut self, finalizers: Vec<String>) {
        if finalizers.is_empty() {
            self.metadata_mut().remove("finalizers");
        } else {
            self.metadata_mut()
                .insert("finalizers".into(), finalizers.into());
        }
    }

    /// Owner references that can be read; malformed ones are left out (validation refuses them on the way in).
    pub fn owner_references(&self) -> Vec<OwnerReference> {
        self.metadata()
            .and_then(|metadata| metadata.get("ownerReferences"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|owner| OwnerReference::deserialize(owner).ok())
            .collect()
    }

    /// The value at a path of field names: `object.at(&["spec", "replicas"])`.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter()
            .try_fold(self.0.get(*first)?, |value, field| value.get(*field))
    }

    /// The text of a scalar at a path, as a field selector compares it; empty if missing.
    pub fn text_at(&self, path: &[&str]) -> String {
        match self.at(path) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(flag)) => flag.to_string(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    /// Sets the value at a path, making objects on the way. A non-object in the way is replaced.
    pub fn set_at(&mut self, path: &[&str], value: Value) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let mut map = &mut self.0;
        for parent in parents {
            let next = map
                .entry(*parent)
                .or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            map = next.as_object_mut().expect("it was just made an object");
        }
        map.insert((*last).into(), value);
    }

    pub fn remove_at(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let mut map = &mut self.0;
        for parent in parents {
            map = map.get_mut(*parent)?.as_object_mut()?;
        }
        map.remove(*last)
    }
}

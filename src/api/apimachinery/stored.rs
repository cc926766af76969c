//! An object at rest: its JSON bytes, shared by everybody in the process, and a small index extracted once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Object, ObjectKey, OwnerReference, from_json};

/// One version of one object. Cloning it copies three pointers.
///
/// The bytes carry no resourceVersion: the revision of the write is the version, and readers splice it in.
#[derive(Clone, Debug)]
pub struct StoredObject {
    pub bytes: Arc<[u8]>,
    /// The revision of the write that made this version.
    pub revision: i64,
    pub index: Arc<ObjectIndex>,
}

/// What list, watch, informers and ownership rules read of an object without parsing it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectIndex {
    pub key: ObjectKey,
    pub uid: String,
    pub generation: i64,
    pub labels: Box<[(Box<str>, Box<str>)]>,
    pub owners: Box<[OwnerReference]>,
    pub finalizers: Box<[Box<str>]>,
    pub is_being_deleted: bool,
    /// Selectable fields beyond name and namespace, in the order of the resource's table.
    pub fields: Box<[(&'static str, Box<str>)]>,
}

impl ObjectIndex {
    /// Reads the metadata of an object's JSON; everything else is skipped, not kept. `fields` stays empty.
    pub fn extract(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let head: Head<'_> = serde_json::from_slice(bytes)?;
        let metadata = head.metadata;
        Ok(Self {
            key: ObjectKey::namespaced(metadata.namespace.into_owned(), metadata.name.into_owned()),
            uid: metadata.uid.into_owned(),
            generation: metadata.generation.unwrap_or(0),
            labels: metadata
                .labels
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.into_owned().into(), value.into_owned().into()))
                .collect(),
            owners: metadata.owner_references.unwrap_or_default().into(),
            finalizers: metadata
                .finalizers
                .into_iter()
                .flatten()
                .map(Into::into)
                .collect(),
            is_being_deleted: metadata.deletion_timestamp.is_some(),
            fields: Box::default(),
        })
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(name, _)| **name == *key)
            .map(|(_, value)| &**value)
    }

    /// The value of a selectable field; `metadata.name` and `metadata.namespace` always exist.
    pub fn field(&self, field: &str) -> Option<&str> {
        match field {
            "metadata.name" => Some(&self.key.name),
            "metadata.namespace" => Some(&self.key.namespace),
            _ => self
                .fields
                .iter()
                .find(|(name, _)| *name == field)
                .map(|(_, value)| &**value),
        }
    }

    /// The owner that controls the object.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners
            .iter()
            .find(|owner| owner.controller == Some(true))
    }
}

impl StoredObject {
    /// For objects that came from elsewhere than the store's own index.
    pub fn new(bytes: Arc<[u8]>, revision: i64) -> Result<Self, serde_json::Error> {
        let index = Arc::new(ObjectIndex::extract(&bytes)?);
        Ok(Self {
            bytes,
            revision,
            index,
        })
    }

    pub fn key(&self) -> &ObjectKey {
        &self.index.key
    }

    /// Reads the object, or the few fields that `T` names, from its bytes. The result has no resourceVersion: that is `revision`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        from_json(&self.bytes)
    }

    /// Reads a view that borrows its texts from the bytes.
    pub fn view<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }

    /// The object as a tree, with its resourceVersion.
    pub fn to_object(&self) -> Result<Object, serde_json::Error> {
        let mut object = Object::from_slice(&self.bytes)?;
        object.set_metadata_text("resourceVersion", self.revision.to_string());
        Ok(object)
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata<'a> {
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    uid: Cow<'a, str>,
    generation: Option<i64>,
    #[serde(borrow)]
    labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_holds_what_selectors_and_owners_need() {
        let bytes = br#"{"kind":"Pod","metadata":{"name":"a","namespace":"b","uid":"u","labels":{"x":"y"},
            "ownerReferences":[{"apiVersion":"v1","kind":"K","name":"n","uid":"o","controller":true}],
            "deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["f"]},"spec":{"metadata":{"name":"not me"}}}"#;
        let index = ObjectIndex::extract(bytes).expect("an object");
        assert_eq!(index.key, ObjectKey::namespaced("b", "a"));
        assert_eq!(index.label("x"), Some("y"));
        assert_eq!(
            index.controller().map(|owner| owner.uid.as_str()),
            Some("o")
        );
        assert!(index.is_being_deleted);
        assert_eq!(index.field("metadata.name"), Some("a"));
    }
}

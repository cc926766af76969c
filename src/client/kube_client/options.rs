//! What a call may ask for beyond the object it names.

use serde_json::{Map, Value, json};

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// `metav1.DeleteOptions`; the default leaves everything to the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    /// Only if the object has this uid: otherwise the answer is a conflict.
    pub uid: Option<String>,
    /// Only if the object has this resourceVersion.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Only the object with this uid.
    pub fn only(uid: impl Into<String>) -> Self {
        Self {
            uid: Some(uid.into()),
            ..Self::default()
        }
    }

    pub(crate) fn to_body(&self) -> Vec<u8> {
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = self.grace_period_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = propagation.as_str().into();
        }
        let mut preconditions = Map::new();
        if let Some(uid) = &self.uid {
            preconditions.insert("uid".into(), uid.clone().into());
        }
        if let Some(version) = &self.resource_version {
            preconditions.insert("resourceVersion".into(), version.clone().into());
        }
        if !preconditions.is_empty() {
            body["preconditions"] = Value::Object(preconditions);
        }
        body.to_string().into_bytes()
    }
}

/// A change to an object, in one of the four languages the API speaks.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Merge with the lists' own rules; built-in kinds only.
    Strategic(Value),
    /// Server-side apply by the client's field manager.
    Apply(Value),
    /// Server-side apply that takes fields from other managers.
    ForceApply(Value),
}

impl Patch {
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json-patch+json",
            Self::Merge(_) => "application/merge-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
            Self::Apply(_) | Self::ForceApply(_) => "application/apply-patch+yaml",
        }
    }

    pub(crate) fn to_body(&self) -> Vec<u8> {
        match self {
            Self::Json(value)
            | Self::Merge(value)
            | Self::Strategic(value)
            | Self::Apply(value)
            | Self::ForceApply(value) => value.to_string().into_bytes(),
        }
    }
}

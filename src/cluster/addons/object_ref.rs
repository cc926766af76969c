//! Which object: what a record remembers of it.

use apimachinery::Object;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectRef {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    /// As the file says; an object without one may lie in `default` or in none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ObjectRef {
    pub(crate) fn of(object: &Object) -> Self {
        Self {
            api_version: object.api_version().to_owned(),
            kind: object.kind().to_owned(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
        }
    }

    pub(crate) fn group(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }

    /// The same for every version of the kind.
    pub(crate) fn key(&self) -> ObjectKey {
        let namespace = match self.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        };
        ObjectKey {
            group: self.group().to_owned(),
            kind: self.kind.clone(),
            namespace: namespace.to_owned(),
            name: self.name.clone(),
        }
    }

    /// What others need comes first.
    pub(crate) fn order(&self) -> Order {
        match (self.group(), self.kind.as_str()) {
            ("", "Namespace") => Order::Namespace,
            ("apiextensions.k8s.io", "CustomResourceDefinition") => Order::Definition,
            _ => Order::Other,
        }
    }
}

/// One object, whichever version of its kind somebody speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    group: String,
    kind: String,
    namespace: String,
    name: String,
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            return write!(formatter, "{} {}", self.kind, self.name);
        }
        write!(formatter, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Namespace,
    Definition,
    Other,
}

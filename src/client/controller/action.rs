//! What a plan may ask for: plain data that says all there is to do.

use std::borrow::Cow;
use std::time::Duration;

use apimachinery::{GroupVersionResource, Object, ObjectKey};
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::ObjectReference;
use kube_client::{DeleteOptions, Kind, Patch, resource_of};
use serde_json::Value;

use crate::Event;

/// The result of `plan`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Carried out in order; a failure does not stop the next.
    pub actions: Vec<Action>,
    /// Turn again after this time, also if nothing changes.
    pub again_after: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create {
        resource: GroupVersionResource,
        object: Box<Object>,
        announcement: Option<Box<Announcement>>,
    },
    /// Replaces an object or, if `subresource` is not empty, that part of it. With a resourceVersion only that version.
    Update {
        resource: GroupVersionResource,
        subresource: &'static str,
        object: Box<Object>,
    },
    Patch {
        resource: GroupVersionResource,
        key: ObjectKey,
        subresource: &'static str,
        patch: Patch,
    },
    /// A missing object counts as deleted.
    Delete {
        resource: GroupVersionResource,
        key: ObjectKey,
        options: DeleteOptions,
        announcement: Option<Box<Announcement>>,
    },
    Emit(Event),
    /// Read live; the next turn, which follows at once, is told the answer.
    Read {
        resource: GroupVersionResource,
        key: ObjectKey,
    },
    /// Creates a review: an object that is answered and never stored. The next turn, which follows at once, is told the answer.
    Ask {
        resource: GroupVersionResource,
        object: Box<Object>,
    },
    /// In order, until the first failure.
    Sequence(Vec<Action>),
    /// 1, 2, 4 … at a time, until the first failure.
    SlowStart(Vec<Action>),
    /// All at once, up to a limit; a failure does not stop the others.
    Together(Vec<Action>),
}

/// Events about an object, emitted when the outcome of an action is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    pub regarding: ObjectReference,
    /// Reason, and the text before the name of the object that was made or removed.
    pub success: (&'static str, Cow<'static, str>),
    /// Reason, and the text before the error.
    pub failure: (&'static str, Cow<'static, str>),
}

impl Plan {
    pub fn nothing() -> Self {
        Self::default()
    }

    pub fn of(actions: Vec<Action>) -> Self {
        Self {
            actions,
            again_after: None,
        }
    }

    pub fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Turn again after `span` at the latest.
    pub fn wake_within(&mut self, span: Duration) {
        self.again_after = Some(self.again_after.map_or(span, |known| known.min(span)));
    }
}

impl Action {
    pub fn create<K: Kind>(object: &K) -> Self {
        Self::Create {
            resource: resource_of::<K>(),
            object: Box::new(tree(object)),
            announcement: None,
        }
    }

    pub fn create_announced<K: Kind>(object: &K, announcement: Announcement) -> Self {
        Self::Create {
            resource: resource_of::<K>(),
            object: Box::new(tree(object)),
            announcement: Some(Box::new(announcement)),
        }
    }

    pub fn update<K: Kind>(object: &K) -> Self {
        Self::Update {
            resource: resource_of::<K>(),
            subresource: "",
            object: Box::new(tree(object)),
        }
    }

    pub fn update_status<K: Kind>(object: &K) -> Self {
        Self::Update {
            resource: resource_of::<K>(),
            subresource: "status",
            object: Box::new(tree(object)),
        }
    }

    /// A merge patch (RFC 7386). A resourceVersion or uid in its metadata is a precondition.
    pub fn merge<K: Resource>(key: ObjectKey, patch: Value) -> Self {
        Self::Patch {
            resource: resource_of::<K>(),
            key,
            subresource: "",
            patch: Patch::Merge(patch),
        }
    }

    pub fn merge_status<K: Resource>(key: ObjectKey, patch: Value) -> Self {
        Self::Patch {
            resource: resource_of::<K>(),
            key,
            subresource: "status",
            patch: Patch::Merge(patch),
        }
    }

    /// Deletes the object with this uid and no other.
    pub fn delete<K: Resource>(key: ObjectKey, uid: impl Into<String>) -> Self {
        Self::Delete {
            resource: resource_of::<K>(),
            key,
            options: DeleteOptions::only(uid),
            announcement: None,
        }
    }

    pub fn delete_announced<K: Resource>(
        key: ObjectKey,
        uid: impl Into<String>,
        announcement: Announcement,
    ) -> Self {
        Self::Delete {
            resource: resource_of::<K>(),
            key,
            options: DeleteOptions::only(uid),
            announcement: Some(Box::new(announcement)),
        }
    }

    pub fn read<K: Resource>(key: ObjectKey) -> Self {
        Self::Read {
            resource: resource_of::<K>(),
            key,
        }
    }
}

fn tree<K: Kind>(object: &K) -> Object {
    Object::from_typed(object).expect("objects of Kubernetes' types are JSON objects")
}

//! Pods from templates, and the events that tell of them.

use apimachinery::Object;
use controller::{Action, Announcement};
use k8s_openapi::api::core::v1::Pod;
use kube_client::resource_of;
use serde_json::{Map, Value, json};

use crate::ownership::Owner;
use crate::pods::PodFacts;

/// The longest base of a generated pod name that keeps its dash.
const NAME_PREFIX_MAX: usize = 253;

/// A pod as the template says, owned by `owner`, with a generated name.
pub(crate) fn pod_from(template: &Value, owner: &Owner) -> Object {
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        let value = template.pointer(&format!("/metadata/{field}")).cloned();
        metadata.extend(
            value
                .filter(|value| !value.is_null())
                .map(|value| (field.to_owned(), value)),
        );
    }
    let prefix = format!("{}-", owner.key.name);
    let prefix = if prefix.len() > NAME_PREFIX_MAX {
        owner.key.name.clone()
    } else {
        prefix
    };
    metadata.insert("generateName".into(), prefix.into());
    metadata.insert("namespace".into(), owner.key.namespace.clone().into());
    metadata.insert("ownerReferences".into(), json!([owner.reference()]));
    let mut pod = Map::new();
    pod.insert("apiVersion".into(), "v1".into());
    pod.insert("kind".into(), "Pod".into());
    pod.insert("metadata".into(), Value::Object(metadata));
    pod.insert(
        "spec".into(),
        template.get("spec").cloned().unwrap_or_else(|| json!({})),
    );
    Object(pod)
}

/// The events about making and removing a pod, on its owner.
pub(crate) fn announce_create(owner: &Owner) -> Announcement {
    Announcement {
        regarding: owner.as_event_object(),
        success: ("SuccessfulCreate", "Created pod: ".into()),
        failure: ("FailedCreate", "Error creating: ".into()),
    }
}

pub(crate) fn announce_delete(owner: &Owner) -> Announcement {
    Announcement {
        regarding: owner.as_event_object(),
        success: ("SuccessfulDelete", "Deleted pod: ".into()),
        failure: ("FailedDelete", "Error deleting: ".into()),
    }
}

pub(crate) fn create_pod(pod: Object, owner: &Owner) -> Action {
    Action::Create {
        resource: resource_of::<Pod>(),
        object: Box::new(pod),
        announcement: Some(Box::new(announce_create(owner))),
    }
}

pub(crate) fn delete_pod(pod: &PodFacts, owner: &Owner) -> Action {
    Action::delete_announced::<Pod>(
        pod.key().clone(),
        pod.index.uid.clone(),
        announce_delete(owner),
    )
}

//! What makes a numbered pod itself: its name, its host name, its volumes.

use apimachinery::Object;
use controller::Action;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube_client::resource_of;
use serde_json::{Value, json};

use super::{Claimed, View};
use crate::history::{REVISION_HASH, Revision};
use crate::pod_template::pod_from;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The number in a pod's name, if it is one of the set's.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let number = pod.strip_prefix(set)?.strip_prefix('-')?;
    let is_plain = number == "0" || !number.starts_with('0');
    number
        .parse()
        .ok()
        .filter(|_| is_plain && number.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn pod_name(view: &View, ordinal: i32) -> String {
    format!("{}-{ordinal}", view.owner.key.name)
}

/// The pod of a number, as a revision has it.
pub(super) fn pod(view: &View, ordinal: i32, revision: &Revision) -> Object {
    let name = pod_name(view, ordinal);
    let mut pod = pod_from(&revision.template(), &view.owner);
    pod.metadata_mut().remove("generateName");
    pod.set_metadata_text("name", name.clone());
    for (label, value) in [
        (POD_NAME, name.clone()),
        (POD_INDEX, ordinal.to_string()),
        (REVISION_HASH, revision.name().to_owned()),
    ] {
        pod.set_at(&["metadata", "labels", label], value.into());
    }
    pod.set_at(&["spec", "hostname"], name.clone().into());
    pod.set_at(
        &["spec", "subdomain"],
        view.spec.service_name.clone().into(),
    );
    if !view.spec.volume_claim_templates.is_empty() {
        let volumes = volumes(view, &pod, &name);
        pod.set_at(&["spec", "volumes"], volumes.into());
    }
    pod
}

fn template_name(template: &Value) -> &str {
    template
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub(super) fn claim_name(template: &Value, pod: &str) -> String {
    format!("{}-{pod}", template_name(template))
}

/// The pod's volumes: a claim takes the place of a volume of the same name.
fn volumes(view: &View, pod: &Object, name: &str) -> Vec<Value> {
    let templates = &view.spec.volume_claim_templates;
    let mut volumes: Vec<Value> = templates
        .iter()
        .map(|template| {
            let claim = json!({"claimName": claim_name(template, name), "readOnly": false});
            json!({"name": template_name(template), "persistentVolumeClaim": claim})
        })
        .collect();
    let own = pod
        .at(&["spec", "volumes"])
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let is_replaced = |volume: &Value| {
        templates
            .iter()
            .any(|template| volume["name"] == template_name(template))
    };
    volumes.extend(own.into_iter().filter(|volume| !is_replaced(volume)));
    volumes
}

/// Claims of a pod that do not exist yet.
pub(super) fn missing_claims(view: &View, ordinal: i32) -> Vec<Action> {
    let pod = pod_name(view, ordinal);
    let templates = view.spec.volume_claim_templates.iter();
    let missing =
        templates.filter(|template| !view.claims.contains_key(&claim_name(template, &pod)));
    missing
        .map(|template| create_claim(view, template, &pod))
        .collect()
}

fn create_claim(view: &View, template: &Value, pod: &str) -> Action {
    let mut labels = template
        .pointer("/metadata/labels")
        .cloned()
        .unwrap_or_else(|| json!({}));
    for (key, value) in view
        .spec
        .selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        labels[key] = value.clone();
    }
    let mut object = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name(template, pod), "namespace": view.owner.key.namespace, "labels": labels,
            "annotations": template.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({})),
        },
        "spec": template.get("spec").cloned().unwrap_or_default(),
    });
    if deletes_when(view, Occasion::Deleted) {
        object["metadata"]["ownerReferences"] = json!([set_reference(view)]);
    }
    Action::Create {
        resource: resource_of::<PersistentVolumeClaim>(),
        object: Box::new(Object::from_value(object).expect("it is an object")),
        announcement: None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    Deleted,
    Scaled,
}

/// Do claims go with the set, or with a pod that is not wanted any more?
pub(super) fn deletes_when(view: &View, occasion: Occasion) -> bool {
    let policy = view.spec.persistent_volume_claim_retention_policy.as_ref();
    policy.is_some_and(|policy| match occasion {
        Occasion::Deleted => policy.when_deleted == "Delete",
        Occasion::Scaled => policy.when_scaled == "Delete",
    })
}

fn set_reference(view: &View) -> Value {
    json!({
        "apiVersion": view.owner.api_version, "kind": view.owner.kind,
        "name": view.owner.key.name, "uid": view.owner.uid,
    })
}

/// Brings the owners of a pod's claims in line with the retention policy (KEP-1847).
///
/// `condemned` is the uid of a pod that is about to be removed for good.
pub(super) fn own_claims(view: &View, ordinal: i32, condemned: Option<&str>) -> Vec<Action> {
    let pod = pod_name(view, ordinal);
    let templates = view.spec.volume_claim_templates.iter();
    let claims = templates.filter_map(|template| {
        let name = claim_name(template, &pod);
        let claim = view
            .claims
            .get(&name)
            .filter(|claim| !claim.is_being_deleted)?;
        own_claim(view, name, claim, &pod, condemned)
    });
    claims.collect()
}

fn own_claim(
    view: &View,
    name: String,
    claim: &Claimed,
    pod: &str,
    condemned: Option<&str>,
) -> Option<Action> {
    let is_ours = |kind: &str, owner: &str| {
        (kind == "StatefulSet" && owner == view.owner.key.name) || (kind == "Pod" && owner == pod)
    };
    let mut wanted: Vec<Value> = claim
        .owners
        .iter()
        .filter(|owner| !is_ours(&owner.kind, &owner.name))
        .map(|owner| serde_json::to_value(owner).unwrap_or_default())
        .collect();
    match condemned {
        Some(uid) if deletes_when(view, Occasion::Scaled) => {
            wanted.push(json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}));
        }
        _ => wanted.extend(deletes_when(view, Occasion::Deleted).then(|| set_reference(view))),
    }
    let uids = |owners: Vec<&str>| {
        owners
            .into_iter()
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let standing = uids(
        claim
            .owners
            .iter()
            .map(|owner| owner.uid.as_str())
            .collect(),
    );
    let planned = uids(
        wanted
            .iter()
            .filter_map(|owner| owner["uid"].as_str())
            .collect(),
    );
    (standing != planned).then(|| {
        let metadata =
            json!({"resourceVersion": claim.revision.to_string(), "ownerReferences": wanted});
        let key = apimachinery::ObjectKey::namespaced(view.owner.key.namespace.clone(), name);
        Action::merge::<PersistentVolumeClaim>(key, json!({"metadata": metadata}))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_set_have_a_number() {
        assert_eq!(ordinal("web", "web-0"), Some(0));
        assert_eq!(ordinal("web", "web-12"), Some(12));
        assert_eq!(ordinal("web", "web-01"), None);
        assert_eq!(ordinal("web", "web-x-1"), None);
        assert_eq!(ordinal("web", "website-1"), None);
    }
}

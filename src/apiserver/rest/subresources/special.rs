//! The parts of an object that are written through a door of their own: `/finalize`, `/approval`, `/ephemeralcontainers`,
//! `/resize`. Everything else stays as it is; whether the part itself is right, the kind's validation says.

use apimachinery::Object;
use env::Timestamp;
use registry::Subresource;
use serde_json::Value;

use crate::modify::{restore, set_or_remove};

/// Takes back what a write through this subresource cannot change.
pub(crate) fn keep(subresource: Subresource, object: &mut Object, old: &Object, now: Timestamp) {
    match subresource {
        Subresource::Finalize => copy(object, old, "status"),
        Subresource::Approval => keep_all_but_conditions(object, old, &now.to_seconds_string()),
        Subresource::EphemeralContainers => keep_all_but_guests(object, old),
        Subresource::Resize => keep_all_but_resources(object, old),
        _ => {}
    }
}

fn copy(object: &mut Object, old: &Object, field: &str) {
    set_or_remove(&mut object.0, field, old.0.get(field).cloned());
}

fn keep_all_but_conditions(request: &mut Object, old: &Object, now: &str) {
    let conditions_of = |object: &Object| object.at(&["status", "conditions"]).cloned();
    let before = conditions_of(old).unwrap_or_default();
    let mut conditions = conditions_of(request).unwrap_or_default();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        complete(condition, &before, now);
    }
    copy(request, old, "spec");
    copy(request, old, "status");
    if conditions.is_null() {
        if let Some(status) = request.0.get_mut("status").and_then(Value::as_object_mut) {
            status.remove("conditions");
        }
    } else {
        request.set_at(&["status", "conditions"], conditions);
    }
}

/// Fills in the times that the client left out.
fn complete(condition: &mut Value, old: &Value, now: &str) {
    let is_missing = |value: &Value| value.as_str().is_none_or(str::is_empty);
    if is_missing(&condition["lastUpdateTime"]) {
        condition["lastUpdateTime"] = now.into();
    }
    if is_missing(&condition["lastTransitionTime"]) {
        let same = old.as_array().into_iter().flatten().find(|old| {
            old["type"] == condition["type"]
                && old["status"] == condition["status"]
                && !is_missing(&old["lastTransitionTime"])
        });
        condition["lastTransitionTime"] =
            same.map_or_else(|| now.into(), |old| old["lastTransitionTime"].clone());
    }
}

fn keep_all_but_guests(pod: &mut Object, old: &Object) {
    let guests = pod.at(&["spec", "ephemeralContainers"]).cloned();
    restore(pod, old);
    set_in_spec(pod, "ephemeralContainers", guests);
}

fn keep_all_but_resources(pod: &mut Object, old: &Object) {
    let lists = ["containers", "initContainers"];
    // Whoever adds or removes a container is told so by the validation.
    if lists
        .iter()
        .any(|list| containers(pod, list).len() != containers(old, list).len())
    {
        return;
    }
    let resized = lists.map(|list| resized(containers(pod, list), containers(old, list)));
    let own = pod.at(&["spec", "resources"]).cloned();
    restore(pod, old);
    for (list, containers) in lists.into_iter().zip(resized) {
        if !containers.is_empty() {
            set_in_spec(pod, list, Some(containers.into()));
        }
    }
    set_in_spec(pod, "resources", own);
}

fn containers<'a>(pod: &'a Object, list: &str) -> &'a [Value] {
    pod.at(&["spec", list])
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The old containers with the resources of the new ones; the new ones as they are where names or their order changed.
fn resized(new: &[Value], old: &[Value]) -> Vec<Value> {
    if new
        .iter()
        .zip(old)
        .any(|(new, old)| new["name"] != old["name"])
    {
        return new.to_vec();
    }
    let mut resized = old.to_vec();
    for (container, new) in resized.iter_mut().zip(new) {
        let Value::Object(container) = container else {
            continue;
        };
        for field in ["resources", "resizePolicy"] {
            set_or_remove(container, field, new.get(field).cloned());
        }
    }
    resized
}

fn set_in_spec(pod: &mut Object, field: &str, value: Option<Value>) {
    if let Some(spec) = pod.0.get_mut("spec").and_then(Value::as_object_mut) {
        set_or_remove(spec, field, value);
    }
}

//! The verbs of the fake: create, get, update, patch, delete and the subresources that controllers use.

use apimachinery::{
    ApiError, GroupVersion, GroupVersionResource, Object, ObjectKey, generate_name, json_patch,
    merge_patch,
};
use env::Timestamp;
use serde_json::{Value, json};

use super::{Selection, State, discovery};
use crate::{ListRequest, Method, Request};

type Answer = Result<(u16, Vec<u8>), ApiError>;

/// What a path names.
struct Target {
    resource: GroupVersionResource,
    namespace: String,
    name: String,
    subresource: String,
}

pub(super) fn serve(state: &mut State, request: &Request, now: Timestamp) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let Some(target) = target(&segments) else {
        return Ok((
            200,
            discovery::serve(state, &segments)?.to_string().into_bytes(),
        ));
    };
    let parameters = parameters(query);
    let object = match request.method {
        Method::Get if target.name.is_empty() => list(state, &target, &parameters)?,
        Method::Get => get(state, &target)?,
        Method::Post if target.name.is_empty() => {
            return create(state, &target, body(request)?, now);
        }
        Method::Post => return post_subresource(state, &target, &body(request)?),
        Method::Put => put(state, &target, body(request)?)?,
        Method::Patch => patch(state, &target, request, now)?,
        Method::Delete if target.name.is_empty() => {
            return delete_collection(state, &target, &parameters, request, now);
        }
        Method::Delete => return delete(state, &target, &options(request), now),
    };
    Ok((200, encode(&object)?))
}

fn target(segments: &[&str]) -> Option<Target> {
    let (version, rest) = match segments {
        ["api", version, rest @ ..] => (GroupVersion::new("", (*version).to_owned()), rest),
        ["apis", group, version, rest @ ..] => (
            GroupVersion::new((*group).to_owned(), (*version).to_owned()),
            rest,
        ),
        _ => return None,
    };
    let text = |value: &str| percent_decode(value);
    let (namespace, rest) = match rest {
        ["namespaces", _, "status" | "finalize"] => (String::new(), rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (text(namespace), rest),
        _ => (String::new(), rest),
    };
    let (resource, name, subresource) = match rest {
        [resource] => (resource, "", ""),
        [resource, name] => (resource, *name, ""),
        [resource, name, subresource] => (resource, *name, *subresource),
        _ => return None,
    };
    Some(Target {
        resource: version.resource((*resource).to_owned()),
        namespace,
        name: text(name),
        subresource: subresource.to_owned(),
    })
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| {
                text.get(at + 1..at + 3)
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            })
            .flatten();
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn parameters(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), percent_decode(value)))
        .collect()
}

fn body(request: &Request) -> Result<Object, ApiError> {
    Object::from_slice(&request.body).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn options(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

fn encode(object: &Object) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(object).map_err(ApiError::internal)
}

fn get(state: &State, target: &Target) -> Result<Object, ApiError> {
    let key = ObjectKey::namespaced(target.namespace.clone(), target.name.clone());
    let missing = || ApiError::not_found(&target.resource.group_resource(), &target.name);
    let stored = state
        .objects
        .get(&(target.resource.clone(), key))
        .ok_or_else(missing)?;
    stored.to_object().map_err(ApiError::internal)
}

fn create(state: &mut State, target: &Target, mut object: Object, now: Timestamp) -> Answer {
    state.uids += 1;
    if object.name().is_empty() {
        let name = generate_name(object.metadata_text("generateName"), state.uids);
        object.set_metadata_text("name", name);
    }
    object.set_metadata_text("namespace", target.namespace.clone());
    let key = object.key();
    if state
        .objects
        .contains_key(&(target.resource.clone(), key.clone()))
    {
        return Err(ApiError::already_exists(
            &target.resource.group_resource(),
            &key.name,
        ));
    }
    object.set_metadata_text("uid", format!("00000000-0000-4000-8000-{:012}", state.uids));
    object.set_metadata_text("creationTimestamp", now.to_seconds_string());
    object.set_generation(1);
    if target.resource.resource == "namespaces" {
        object.set_at(&["spec", "finalizers"], json!(["kubernetes"]));
        object.set_at(&["status", "phase"], "Active".into());
    }
    let stored = state.write(&target.resource, &key, Some(&object))?;
    Ok((
        201,
        encode(&stored.to_object().map_err(ApiError::internal)?)?,
    ))
}

fn post_subresource(state: &mut State, target: &Target, body: &Object) -> Answer {
    let mut object = get(state, target)?;
    match target.subresource.as_str() {
        "binding" => {
            let is_bound = !object.text_at(&["spec", "nodeName"]).is_empty();
            if is_bound {
                let why = format!("pod {} is already assigned to node", target.name);
                return Err(ApiError::conflict(
                    &target.resource.group_resource(),
                    &target.name,
                    &why,
                ));
            }
            object.set_at(
                &["spec", "nodeName"],
                body.at(&["target", "name"]).cloned().unwrap_or_default(),
            );
            object.set_at(
                &["status", "conditions"],
                json!([{"type": "PodScheduled", "status": "True"}]),
            );
        }
        _ => return Err(ApiError::no_such_path()),
    }
    state.write(&target.resource, &object.key(), Some(&object))?;
    Ok((
        201,
        br#"{"kind":"Status","apiVersion":"v1","status":"Success"}"#.to_vec(),
    ))
}

fn put(state: &mut State, target: &Target, new: Object) -> Result<Object, ApiError> {
    let old = get(state, target)?;
    let wanted = new.resource_version();
    if !wanted.is_empty() && wanted != old.resource_version() {
        return Err(ApiError::modified(
            &target.resource.group_resource(),
            &target.name,
        ));
    }
    if !new.uid().is_empty() && new.uid() != old.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            new.uid(),
            old.uid()
        );
        return Err(ApiError::conflict(
            &target.resource.group_resource(),
            &target.name,
            &why,
        ));
    }
    let new = merged_for_update(target, &old, new);
    if new == old {
        return Ok(old);
    }
    store_or_remove(state, target, &new)
}

/// What an update through this subresource may change of the old object.
fn merged_for_update(target: &Target, old: &Object, mut new: Object) -> Object {
    let mut take = |path: &[&str]| {
        let value = new.remove_at(path);
        let mut changed = old.clone();
        match value {
            Some(value) => changed.set_at(path, value),
            None => drop(changed.remove_at(path)),
        }
        changed
    };
    match target.subresource.as_str() {
        "status" | "approval" => return take(&["status"]),
        "finalize" => return take(&["spec", "finalizers"]),
        _ => {}
    }
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "namespace",
    ] {
        match old.metadata().and_then(|metadata| metadata.get(field)) {
            Some(value) => drop(new.metadata_mut().insert(field.into(), value.clone())),
            None => drop(new.metadata_mut().remove(field)),
        }
    }
    new.set_metadata_text("resourceVersion", old.resource_version());
    match old.at(&["status"]) {
        Some(status) => new.set_at(&["status"], status.clone()),
        None => drop(new.remove_at(&["status"])),
    }
    let is_changed = old.at(&["spec"]) != new.at(&["spec"]);
    new.set_generation(old.generation() + i64::from(is_changed));
    new
}

fn store_or_remove(
    state: &mut State,
    target: &Target,
    object: &Object,
) -> Result<Object, ApiError> {
    let is_held = !object.finalizers().is_empty()
        || object
            .at(&["spec", "finalizers"])
            .and_then(Value::as_array)
            .is_some_and(|held| !held.is_empty());
    let is_gone = object.is_being_deleted()
        && !is_held
        && object
            .metadata()
            .and_then(|metadata| metadata.get("deletionGracePeriodSeconds"))
            == Some(&Value::from(0));
    let stored = state.write(
        &target.resource,
        &object.key(),
        (!is_gone).then_some(object),
    )?;
    stored.to_object().map_err(ApiError::internal)
}

fn patch(
    state: &mut State,
    target: &Target,
    request: &Request,
    now: Timestamp,
) -> Result<Object, ApiError> {
    let is_apply = request.content_type.contains("apply");
    let old = match get(state, target) {
        Err(error) if error.is_not_found() && is_apply => {
            let (_, created) = create(state, target, body(request)?, now)?;
            return Object::from_slice(&created).map_err(ApiError::internal);
        }
        other => other?,
    };
    let mut tree = old.into_value();
    if request.content_type.contains("json-patch") {
        tree = json_patch(&tree, &request.body)?;
    } else {
        let patch: Value = serde_json::from_slice(&request.body)
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        if request.content_type.contains("strategic") {
            strategic(&mut tree, &patch);
        } else {
            merge_patch(&mut tree, &patch);
        }
    }
    let new = Object::from_value(tree).ok_or_else(|| ApiError::bad_request("not an object"))?;
    put(state, target, new)
}

/// A merge patch in which the few lists that controllers patch keep their own rules.
fn strategic(document: &mut Value, patch: &Value) {
    let (Some(map), Some(changes)) = (document.as_object_mut(), patch.as_object()) else {
        *document = patch.clone();
        return;
    };
    for (field, change) in changes {
        if let Some(list) = field.strip_prefix("$deleteFromPrimitiveList/") {
            let kept = map.get_mut(list).and_then(Value::as_array_mut);
            kept.into_iter().for_each(|kept| {
                kept.retain(|item| !change.as_array().is_some_and(|gone| gone.contains(item)));
            });
            continue;
        }
        let key = match field.as_str() {
            "conditions" => Some("type"),
            "podIPs" | "hostIPs" => Some("ip"),
            "ownerReferences" => Some("uid"),
            _ => None,
        };
        match (change, key) {
            (Value::Null, _) => drop(map.remove(field)),
            (Value::Object(_), _) => {
                strategic(map.entry(field).or_insert_with(|| json!({})), change);
            }
            (Value::Array(items), None) if field == "finalizers" => {
                let list = map.entry(field).or_insert_with(|| json!([]));
                let Some(list) = list.as_array_mut() else {
                    continue;
                };
                items.iter().for_each(|item| {
                    if !list.contains(item) {
                        list.push(item.clone());
                    }
                });
            }
            (Value::Array(items), Some(key)) => {
                merge_list(map.entry(field).or_insert_with(|| json!([])), items, key);
            }
            _ => drop(map.insert(field.clone(), change.clone())),
        }
    }
}

fn merge_list(list: &mut Value, items: &[Value], key: &str) {
    let Some(list) = list.as_array_mut() else {
        return;
    };
    for item in items {
        let position = list.iter().position(|old| old.get(key) == item.get(key));
        match (item.get("$patch").and_then(Value::as_str), position) {
            (Some("delete"), Some(at)) => drop(list.remove(at)),
            (Some("delete"), None) => {}
            (_, Some(at)) => strategic(&mut list[at], item),
            (_, None) => list.push(item.clone()),
        }
    }
}

fn delete(state: &mut State, target: &Target, options: &Value, now: Timestamp) -> Answer {
    let mut object = get(state, target)?;
    let resource = target.resource.group_resource();
    for field in ["uid", "resourceVersion"] {
        let wanted = options
            .pointer(&format!("/preconditions/{field}"))
            .and_then(Value::as_str);
        if wanted.is_some_and(|wanted| wanted != object.metadata_text(field)) {
            return Err(ApiError::conflict(
                &resource,
                &target.name,
                "the precondition failed",
            ));
        }
    }
    let mut finalizers: Vec<String> = object.finalizers().into_iter().map(str::to_owned).collect();
    match options.get("propagationPolicy").and_then(Value::as_str) {
        Some("Orphan") => finalizers.push("orphan".into()),
        Some("Foreground") => finalizers.push("foregroundDeletion".into()),
        _ => {}
    }
    finalizers.sort();
    finalizers.dedup();
    object.set_finalizers(finalizers);
    let is_running =
        target.resource.resource == "pods" && !object.text_at(&["spec", "nodeName"]).is_empty();
    let grace = options
        .get("gracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(if is_running { 30 } else { 0 });
    if !object.is_being_deleted() {
        object.set_metadata_text("deletionTimestamp", now.to_seconds_string());
    }
    object
        .metadata_mut()
        .insert("deletionGracePeriodSeconds".into(), grace.into());
    if target.resource.resource == "namespaces" {
        object.set_at(&["status", "phase"], "Terminating".into());
    }
    let left = store_or_remove(state, target, &object)?;
    let remains = state
        .objects
        .contains_key(&(target.resource.clone(), left.key()));
    if remains {
        return Ok((200, encode(&left)?));
    }
    Ok((
        200,
        br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#.to_vec(),
    ))
}

fn selection(target: &Target, parameters: &[(String, String)]) -> Result<Selection, ApiError> {
    let parameter = |name: &str| {
        parameters
            .iter()
            .find(|(parameter, _)| parameter == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    Selection::parse(&ListRequest {
        resource: target.resource.clone(),
        namespace: Some(target.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        label_selector: parameter("labelSelector"),
        field_selector: parameter("fieldSelector"),
    })
}

/// All that is selected, on one page.
fn list(
    state: &State,
    target: &Target,
    parameters: &[(String, String)],
) -> Result<Object, ApiError> {
    let selection = selection(target, parameters)?;
    let matching = state
        .objects
        .iter()
        .filter(|((resource, _), object)| selection.matches(resource, object));
    let items: Vec<Value> = matching
        .filter_map(|(_, object)| object.to_object().ok())
        .map(Object::into_value)
        .collect();
    let version = target.resource.group_version().to_string();
    let list = json!({"kind": "List", "apiVersion": version, "items": items,
                      "metadata": {"resourceVersion": state.revision.to_string()}});
    Ok(Object::from_value(list).unwrap_or_default())
}

fn delete_collection(
    state: &mut State,
    target: &Target,
    parameters: &[(String, String)],
    request: &Request,
    now: Timestamp,
) -> Answer {
    let selection = selection(target, parameters)?;
    let matching = state
        .objects
        .iter()
        .filter(|((resource, _), object)| selection.matches(resource, object));
    let names: Vec<ObjectKey> = matching.map(|(_, object)| object.key().clone()).collect();
    for key in names {
        let one = Target {
            resource: target.resource.clone(),
            namespace: key.namespace,
            name: key.name,
            subresource: String::new(),
        };
        delete(state, &one, &options(request), now)?;
    }
    Ok((
        200,
        br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#.to_vec(),
    ))
}

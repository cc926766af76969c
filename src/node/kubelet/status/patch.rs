//! The smallest strategic merge patch from the API's status to the one the kubelet wants.

use serde_json::{Map, Value, json};

/// Lists that the API merges by key instead of replacing.
const KEYED: [(&str, &str); 3] = [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];
/// Written by others; never touched.
const FOREIGN: [&str; 4] = [
    "nominatedNodeName",
    "resourceClaimStatuses",
    "extendedResourceClaimStatus",
    "nodeAllocatableResourceClaimStatuses",
];

/// `None`: the API has it already. `owned` says which conditions may be removed.
pub(crate) fn status_patch(
    uid: &str,
    api: &Value,
    wanted: &Value,
    owned: &[&str],
) -> Option<Value> {
    let empty = Map::new();
    let api = api.as_object().unwrap_or(&empty);
    let wanted = wanted.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (field, value) in wanted {
        let old = api.get(field);
        if old == Some(value) || FOREIGN.contains(&field.as_str()) {
            continue;
        }
        let keyed = KEYED.iter().find(|(list, _)| list == field);
        let change = match keyed {
            Some((_, key)) => list_patch(key, old, value, owned),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(field.clone(), change);
        }
    }
    for (field, old) in api {
        if wanted.contains_key(field) || FOREIGN.contains(&field.as_str()) {
            continue;
        }
        let change = match KEYED.iter().find(|(list, _)| list == field) {
            Some((_, key)) => list_patch(key, Some(old), &json!([]), owned),
            None => Some(Value::Null),
        };
        patch.extend(change.map(|change| (field.clone(), change)));
    }
    (!patch.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": patch}))
}

fn list_patch(key: &str, old: Option<&Value>, new: &Value, owned: &[&str]) -> Option<Value> {
    let items = |list: Option<&Value>| list.and_then(Value::as_array).cloned().unwrap_or_default();
    let (old, new) = (items(old), items(Some(new)));
    let find =
        |list: &[Value], item: &Value| list.iter().find(|other| other[key] == item[key]).cloned();
    let mut changes: Vec<Value> = Vec::new();
    for item in &new {
        match find(&old, item) {
            Some(same) if without_nulls(&same) == *item => {}
            Some(other) => changes.push(with_removals(&other, item)),
            None => changes.push(item.clone()),
        }
    }
    for item in &old {
        let is_ours = key != "type" || item[key].as_str().is_some_and(|kind| owned.contains(&kind));
        if is_ours && find(&new, item).is_none() {
            changes.push(json!({"$patch": "delete", key: item[key]}));
        }
    }
    (!changes.is_empty()).then_some(Value::Array(changes))
}

/// The API writes some absent fields as null.
fn without_nulls(item: &Value) -> Value {
    let fields = item
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null());
    fields
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect::<Map<String, Value>>()
        .into()
}

/// The new item, with null for every field that only the old one has.
fn with_removals(old: &Value, new: &Value) -> Value {
    let mut item = new.clone();
    if let (Some(item), Some(old)) = (item.as_object_mut(), old.as_object()) {
        for field in old.keys() {
            item.entry(field.clone()).or_insert(Value::Null);
        }
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_change_is_no_patch_and_foreign_conditions_are_left_alone() {
        let api = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}, {"type": "x.io/gate", "status": "True"}]});
        let same = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(status_patch("u", &api, &same, &["Ready"]), None);
    }

    #[test]
    fn what_is_gone_is_removed_by_key_or_with_null() {
        let api = json!({"reason": "x", "podIPs": [{"ip": "1"}], "conditions": [{"type": "Ready", "status": "False", "reason": "r"}]});
        let wanted =
            json!({"podIPs": [{"ip": "2"}], "conditions": [{"type": "Ready", "status": "True"}]});
        let patch = status_patch("u", &api, &wanted, &["Ready"]).unwrap();
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(
            patch["status"],
            json!({"reason": null, "podIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null}]})
        );
    }
}

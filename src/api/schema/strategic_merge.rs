//! Strategic merge patch: lists merge by key where the facts say so, directives say how.
//!
//! The format is upstream's: `$patch: replace|merge|delete`, `$retainKeys`, `$deleteFromPrimitiveList/<field>`,
//! `$setElementOrder/<field>`. Built-in kinds only; custom resources have no strategies.

use apimachinery::ApiError;
use serde_json::{Map, Value};

use crate::Node;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

fn refuse(why: impl Into<String>) -> ApiError {
    ApiError::bad_request(why)
}

/// Applies `patch` to `original`; a patch that cannot be applied may leave a part of it applied.
pub fn strategic_merge(
    original: &mut Object,
    patch: &Object,
    node: Node<'_>,
) -> Result<(), ApiError> {
    merge_object(original, patch.clone(), node)
}

fn merge_object(original: &mut Object, mut patch: Object, node: Node<'_>) -> Result<(), ApiError> {
    match take_directive(&mut patch)? {
        Directive::Replace => {
            *original = without_directives(patch);
            return Ok(());
        }
        Directive::Delete => {
            original.clear();
            return Ok(());
        }
        Directive::Merge => {}
    }
    retain_keys(original, &mut patch)?;
    let orders = take_orders(&mut patch)?;
    for (field, order) in &orders {
        // An order alone, without a patch of the list, sorts what is there.
        if !patch.contains_key(field) && original.get(field).is_some_and(Value::is_array) {
            merge_list(original, field, Vec::new(), Some(order), node)?;
        }
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(original, field, &value)?;
            continue;
        }
        merge_field(
            original,
            &key,
            value,
            orders
                .iter()
                .find(|(field, _)| *field == key)
                .map(|(_, order)| order),
            node,
        )?;
    }
    Ok(())
}

fn merge_field(
    original: &mut Object,
    field: &str,
    value: Value,
    order: Option<&Vec<Value>>,
    node: Node<'_>,
) -> Result<(), ApiError> {
    if value.is_null() {
        original.remove(field);
        return Ok(());
    }
    match (original.get_mut(field), value) {
        (Some(Value::Object(inner)), Value::Object(patch)) => match node.child(field) {
            Some(child) if !has_strategy(child, "replace") => merge_object(inner, patch, child),
            // Unknown to the schema: merged as plain JSON.
            None => merge_object(inner, patch, node),
            Some(_) => {
                *inner = without_directives(patch);
                Ok(())
            }
        },
        (Some(Value::Array(_)), Value::Array(patch)) => {
            merge_list(original, field, patch, order, node)
        }
        (_, value) => {
            original.insert(field.to_owned(), clean(value));
            Ok(())
        }
    }
}

fn has_strategy(node: Node<'_>, wanted: &str) -> bool {
    node.patch_strategy()
        .is_some_and(|strategies| strategies.split(',').any(|strategy| strategy == wanted))
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn take_directive(patch: &mut Object) -> Result<Directive, ApiError> {
    match patch.remove(PATCH) {
        None => Ok(Directive::Merge),
        Some(Value::String(word)) => match word.as_str() {
            "merge" => Ok(Directive::Merge),
            "replace" => Ok(Directive::Replace),
            "delete" => Ok(Directive::Delete),
            other => Err(refuse(format!("unknown patch type: {other}"))),
        },
        Some(other) => Err(refuse(format!("unknown patch type: {other}"))),
    }
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), ApiError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(keys) = keys else {
        return Err(refuse("invalid patch format of retainKeys list"));
    };
    let kept = |field: &str| keys.iter().any(|key| key == field);
    let stray = patch
        .iter()
        .find(|(field, value)| !field.starts_with('$') && !value.is_null() && !kept(field));
    if stray.is_some() {
        return Err(refuse(
            "RetainKeys list must be a superset of the fields in the patch",
        ));
    }
    original.retain(|field, _| kept(field));
    Ok(())
}

fn take_orders(patch: &mut Object) -> Result<Vec<(String, Vec<Value>)>, ApiError> {
    let keys: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ELEMENT_ORDER))
        .cloned()
        .collect();
    keys.into_iter()
        .map(|key| match patch.remove(&key) {
            Some(Value::Array(order)) => Ok((key[SET_ELEMENT_ORDER.len()..].to_owned(), order)),
            _ => Err(refuse("invalid patch format of setElementOrder list")),
        })
        .collect()
}

fn delete_from_list(original: &mut Object, field: &str, unwanted: &Value) -> Result<(), ApiError> {
    let Value::Array(unwanted) = unwanted else {
        return Err(refuse(
            "invalid patch format of deleteFromPrimitiveList list",
        ));
    };
    if let Some(Value::Array(items)) = original.get_mut(field) {
        items.retain(|item| !unwanted.contains(item));
    }
    Ok(())
}

fn merge_list(
    original: &mut Object,
    field: &str,
    patch: Vec<Value>,
    order: Option<&Vec<Value>>,
    node: Node<'_>,
) -> Result<(), ApiError> {
    let list_node = node.child(field);
    let Some(list_node) = list_node.filter(|list| has_strategy(*list, "merge")) else {
        original.insert(field.to_owned(), clean(Value::Array(patch)));
        return Ok(());
    };
    let Some(Value::Array(items)) = original.get_mut(field) else {
        return Ok(());
    };
    let before = std::mem::take(items);
    *items = match list_node.patch_merge_key() {
        Some(key) => merge_by_key(before, patch, order, key, list_node)?,
        None => merge_values(before, patch, order),
    };
    Ok(())
}

fn merge_values(before: Vec<Value>, patch: Vec<Value>, order: Option<&Vec<Value>>) -> Vec<Value> {
    let mut merged = before.clone();
    for value in &patch {
        if !merged.contains(value) {
            merged.push(value.clone());
        }
    }
    let same = |left: &Value, right: &Value| left == right;
    arrange(merged, order.unwrap_or(&patch), &before, &same)
}

fn merge_by_key(
    before: Vec<Value>,
    patch: Vec<Value>,
    order: Option<&Vec<Value>>,
    key: &str,
    list: Node<'_>,
) -> Result<Vec<Value>, ApiError> {
    let same = |left: &Value, right: &Value| left.get(key) == right.get(key);
    let mut merged = before.clone();
    let mut plain = Vec::new();
    let mut replaces = false;
    for element in patch {
        let Value::Object(mut element) = element else {
            return Err(refuse(
                "invalid patch format: an element of a list merged by key is no object",
            ));
        };
        match take_directive(&mut element)? {
            Directive::Merge => plain.push(element),
            Directive::Replace => {
                replaces = true;
                if element.contains_key(key) {
                    plain.push(element);
                }
            }
            Directive::Delete => {
                let wanted = element
                    .get(key)
                    .cloned()
                    .ok_or_else(|| missing_key(&element, key))?;
                merged.retain(|item| item.get(key) != Some(&wanted));
            }
        }
    }
    if replaces {
        return Ok(plain
            .into_iter()
            .map(|element| Value::Object(without_directives(element)))
            .collect());
    }
    for element in &plain {
        let wanted = element.get(key).ok_or_else(|| missing_key(element, key))?;
        let present = merged
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .find(|item| item.get(key) == Some(wanted));
        match (present, list.element()) {
            (Some(item), Some(node)) => merge_object(item, element.clone(), node)?,
            _ => merged.push(Value::Object(without_directives(element.clone()))),
        }
    }
    let plain: Vec<Value> = plain.into_iter().map(Value::Object).collect();
    Ok(arrange(merged, order.unwrap_or(&plain), &before, &same))
}

fn missing_key(element: &Object, key: &str) -> ApiError {
    refuse(format!(
        "map: {} does not contain declared merge key: {key}",
        Value::Object(element.clone())
    ))
}

/// Puts what the patch names in the patch's order, and the rest in the server's, each before the next one that follows it there.
fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    same: &dyn Fn(&Value, &Value) -> bool,
) -> Vec<Value> {
    let position = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item));
    let (mut named, rest): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| position(wanted, item).is_some());
    named.sort_by_key(|item| position(wanted, item));
    let mut rest = rest.into_iter().peekable();
    let mut arranged = Vec::with_capacity(named.len() + rest.len());
    for item in named {
        while let Some(other) = rest.peek() {
            match (position(server, other), position(server, &item)) {
                (Some(left), Some(right)) if left < right => arranged.extend(rest.next()),
                _ => break,
            }
        }
        arranged.push(item);
    }
    arranged.extend(rest);
    arranged
}

/// A value that is new to the document: without directives and without nulls in objects.
fn clean(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_directives(map)),
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .filter(|item| {
                    item.get(PATCH)
                        .is_none_or(|directive| directive != "delete")
                })
                .map(clean)
                .collect(),
        ),
        other => other,
    }
}

fn without_directives(map: Object) -> Object {
    map.into_iter()
        .filter(|(key, value)| !value.is_null() && key != PATCH && key != RETAIN_KEYS)
        .filter(|(key, _)| {
            !key.starts_with(SET_ELEMENT_ORDER) && !key.starts_with(DELETE_FROM_LIST)
        })
        .map(|(key, value)| (key, clean(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::built_in;

    fn merged(original: Value, patch: Value) -> Value {
        let kind = built_in("", "v1", "Pod").expect("a pod");
        let (Value::Object(mut original), Value::Object(patch)) = (original, patch) else {
            panic!("objects")
        };
        strategic_merge(&mut original, &patch, Node::from(kind)).expect("a good patch");
        Value::Object(original)
    }

    fn containers(list: Value) -> Value {
        json!({"spec": {"containers": list}})
    }

    #[test]
    fn containers_merge_by_name_and_new_ones_stand_first() {
        let original =
            containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]));
        let patch = containers(json!([{"name": "b", "image": "3"}, {"name": "c", "image": "4"}]));
        let expected = containers(
            json!([{"name": "a", "image": "1"}, {"name": "b", "image": "3"}, {"name": "c", "image": "4"}]),
        );
        assert_eq!(merged(original, patch), expected);
    }

    #[test]
    fn directives_delete_replace_and_order() {
        let original =
            containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]));
        let delete = containers(json!([{"name": "a", "$patch": "delete"}]));
        assert_eq!(
            merged(original.clone(), delete),
            containers(json!([{"name": "b", "image": "2"}]))
        );
        let replace = containers(json!([{"name": "c"}, {"$patch": "replace"}]));
        assert_eq!(
            merged(original.clone(), replace),
            containers(json!([{"name": "c"}]))
        );
        let order =
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}});
        let reversed =
            containers(json!([{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]));
        assert_eq!(merged(original, order), reversed);
    }

    #[test]
    fn null_deletes_and_is_never_added() {
        let original = json!({"metadata": {"labels": {"a": "b", "c": "d"}}});
        let patch =
            json!({"metadata": {"labels": {"a": null}, "annotations": {"x": null, "y": "z"}}});
        let expected = json!({"metadata": {"labels": {"c": "d"}, "annotations": {"y": "z"}}});
        assert_eq!(merged(original, patch), expected);
    }

    #[test]
    fn lists_of_values_merge_or_are_replaced_as_the_facts_say() {
        let original = json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {"containers": [{"name": "a", "args": ["x"]}]}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]},
                           "spec": {"containers": [{"name": "a", "args": ["y"]}]}});
        let result = merged(original, patch);
        assert_eq!(result["spec"]["containers"][0]["args"], json!(["y"]));
        let finalizers = result["metadata"]["finalizers"]
            .as_array()
            .expect("a list")
            .clone();
        assert!(
            finalizers.contains(&json!("b"))
                && finalizers.contains(&json!("c"))
                && !finalizers.contains(&json!("a"))
        );
    }

    #[test]
    fn retained_keys_push_out_the_others() {
        let original = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
        let patch = json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}});
        assert_eq!(
            merged(original, patch),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}})
        );
    }
}

//! Objects seen through their schema: which fields they set, where two differ, how one merges into another.

use schema::{ListType, Node, NodeKind};
use serde_json::{Map, Value};

use crate::field_set::FieldSet;

/// How a place takes part in ownership.
enum Grain<'a> {
    /// Owned as a whole.
    Atomic,
    /// Field by field.
    Struct(Node<'a>),
    /// Key by key; each key is owned too.
    Map(Option<Node<'a>>),
    /// Item by item, told apart by these keys.
    Keyed(Node<'a>, Vec<&'a str>),
    /// Value by value.
    Set,
}

fn grain<'a>(node: Option<Node<'a>>, value: &Value) -> Grain<'a> {
    let Some(node) = node else {
        // Under a place that keeps unknown fields, objects are taken apart and lists are not.
        return if value.is_object() {
            Grain::Map(None)
        } else {
            Grain::Atomic
        };
    };
    match (node.kind(), value) {
        (NodeKind::Struct, Value::Object(_)) if !node.is_map_atomic() => Grain::Struct(node),
        (NodeKind::Map, Value::Object(_)) if !node.is_map_atomic() => Grain::Map(node.element()),
        (NodeKind::Any, Value::Object(_))
            if !node.is_built_in() && node.preserves_unknown_fields() =>
        {
            Grain::Map(None)
        }
        (NodeKind::List, Value::Array(_)) => match node.list_type() {
            ListType::Map => Grain::Keyed(node, node.map_keys()),
            ListType::Set => Grain::Set,
            ListType::Atomic => Grain::Atomic,
        },
        _ => Grain::Atomic,
    }
}

/// A field of a struct: known ones by their node, unknown ones as free JSON where the schema keeps them.
fn field_node<'a>(parent: Node<'a>, name: &str) -> Option<Node<'a>> {
    parent.field(name).or_else(|| parent.element())
}

fn field(name: &str) -> String {
    format!("f:{name}")
}

fn value_element(value: &Value) -> String {
    format!("v:{value}")
}

/// The element of an item by its keys; a missing key has its default, or is left out.
fn keyed_element(list: Node<'_>, keys: &[&str], item: &Value) -> String {
    let node = list.element();
    let entries = keys.iter().filter_map(|key| {
        let value = item.get(*key).filter(|value| !value.is_null()).cloned();
        let value = value.or_else(|| {
            node.and_then(|node| node.field(key))
                .and_then(Node::default)
        })?;
        Some(((*key).to_owned(), value))
    });
    format!("k:{}", Value::Object(entries.collect()))
}

/// Every field that `object` sets.
pub(crate) fn to_field_set(object: &Map<String, Value>, node: Node<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    collect_fields(object, Some(node), &mut Vec::new(), &mut set);
    set
}

fn collect_fields(
    object: &Map<String, Value>,
    node: Option<Node<'_>>,
    path: &mut Vec<String>,
    set: &mut FieldSet,
) {
    for (name, value) in object {
        path.push(field(name));
        let child = node.and_then(|node| field_node(node, name));
        collect(value, child, path, set);
        if value.is_null() || value.as_object().is_some_and(Map::is_empty) {
            set.insert(path);
        }
        path.pop();
    }
}

fn collect(value: &Value, node: Option<Node<'_>>, path: &mut Vec<String>, set: &mut FieldSet) {
    match (grain(node, value), value) {
        (Grain::Struct(node), Value::Object(object)) => {
            collect_fields(object, Some(node), path, set);
        }
        (Grain::Map(element), Value::Object(object)) => {
            for (key, value) in object {
                path.push(field(key));
                collect(value, element, path, set);
                set.insert(path);
                path.pop();
            }
        }
        (Grain::Keyed(list, keys), Value::Array(items)) => {
            for item in items {
                path.push(keyed_element(list, &keys, item));
                collect(item, list.element(), path, set);
                set.insert(path);
                path.pop();
            }
        }
        (Grain::Set, Value::Array(items)) => {
            for item in items {
                path.push(value_element(item));
                set.insert(path);
                path.pop();
            }
        }
        _ => set.insert(path),
    }
}

/// Every path that exists in `object`, also those that are only on the way to a field.
fn to_path_set(object: &Map<String, Value>, node: Node<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    collect_paths_of_fields(object, Some(node), &mut Vec::new(), &mut set);
    set
}

fn collect_paths_of_fields(
    object: &Map<String, Value>,
    node: Option<Node<'_>>,
    path: &mut Vec<String>,
    set: &mut FieldSet,
) {
    for (name, value) in object {
        path.push(field(name));
        set.insert(path);
        collect_paths(
            value,
            node.and_then(|node| field_node(node, name)),
            path,
            set,
        );
        path.pop();
    }
}

fn collect_paths(
    value: &Value,
    node: Option<Node<'_>>,
    path: &mut Vec<String>,
    set: &mut FieldSet,
) {
    match (grain(node, value), value) {
        (Grain::Struct(node), Value::Object(object)) => {
            collect_paths_of_fields(object, Some(node), path, set);
        }
        (Grain::Map(element), Value::Object(object)) => {
            for (key, value) in object {
                path.push(field(key));
                set.insert(path);
                collect_paths(value, element, path, set);
                path.pop();
            }
        }
        (Grain::Keyed(list, keys), Value::Array(items)) => {
            let names: Vec<String> = items
                .iter()
                .map(|item| keyed_element(list, &keys, item))
                .collect();
            for (item, name) in items.iter().zip(&names) {
                path.push(name.clone());
                set.insert(path);
                // Items that share their keys are owned as one, without what is in them.
                if names.iter().filter(|other| *other == name).count() == 1 {
                    collect_paths(item, list.element(), path, set);
                }
                path.pop();
            }
        }
        (Grain::Set, Value::Array(items)) => {
            for item in items {
                path.push(value_element(item));
                set.insert(path);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Where a new object differs from an old one. A path that is new counts with everything on the way to its leaves, so that
/// who first makes a map or list owns it as well as what it holds.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

impl Comparison {
    pub(crate) fn between(
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        node: Node<'_>,
    ) -> Self {
        let (before, after) = (to_path_set(old, node), to_path_set(new, node));
        let mut modified = FieldSet::default();
        collect_modified_fields(old, new, Some(node), &mut Vec::new(), &mut modified);
        Self {
            added: after.difference(&before),
            removed: before.difference(&after),
            modified,
        }
    }

    pub(crate) fn written(&self) -> FieldSet {
        self.added.union(&self.modified)
    }
}

fn collect_modified_fields(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    node: Option<Node<'_>>,
    path: &mut Vec<String>,
    set: &mut FieldSet,
) {
    for (name, value) in new {
        let Some(before) = old.get(name).filter(|before| *before != value) else {
            continue;
        };
        path.push(field(name));
        collect_modified(
            before,
            value,
            node.and_then(|node| field_node(node, name)),
            path,
            set,
        );
        path.pop();
    }
}

fn collect_modified(
    old: &Value,
    new: &Value,
    node: Option<Node<'_>>,
    path: &mut Vec<String>,
    set: &mut FieldSet,
) {
    match (grain(node, new), old, new) {
        (Grain::Struct(node), Value::Object(old), Value::Object(new)) => {
            collect_modified_fields(old, new, Some(node), path, set);
        }
        (Grain::Map(element), Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                let Some(before) = old.get(key).filter(|before| *before != value) else {
                    continue;
                };
                path.push(field(key));
                collect_modified(before, value, element, path, set);
                path.pop();
            }
        }
        (Grain::Keyed(list, keys), Value::Array(old), Value::Array(new)) => {
            for item in new {
                let element = keyed_element(list, &keys, item);
                let before = old
                    .iter()
                    .find(|before| keyed_element(list, &keys, before) == element);
                let Some(before) = before.filter(|before| *before != item) else {
                    continue;
                };
                path.push(element);
                collect_modified(before, item, list.element(), path, set);
                path.pop();
            }
        }
        (Grain::Set | Grain::Keyed(..), Value::Null, Value::Array(items)) if items.is_empty() => {
            set.insert(path);
        }
        // What was null had no members; that they are new is told elsewhere.
        (Grain::Set, _, _)
        | (Grain::Struct(_) | Grain::Map(_) | Grain::Keyed(..), Value::Null, _) => {}
        _ => set.insert(path),
    }
}

/// Merges an applied configuration into the live object: what it says wins, the rest stays.
pub(crate) fn merge(
    live: &Map<String, Value>,
    applied: &Map<String, Value>,
    node: Node<'_>,
) -> Map<String, Value> {
    merge_fields(live, applied, Some(node))
}

fn merge_fields(
    live: &Map<String, Value>,
    applied: &Map<String, Value>,
    node: Option<Node<'_>>,
) -> Map<String, Value> {
    let mut merged = live.clone();
    for (name, value) in applied {
        let child = node.and_then(|node| field_node(node, name));
        let value = match live.get(name) {
            Some(before) => merge_value(before, value, child),
            None => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    merged
}

fn merge_value(live: &Value, applied: &Value, node: Option<Node<'_>>) -> Value {
    match (grain(node, applied), live, applied) {
        (Grain::Struct(node), Value::Object(live), Value::Object(applied)) => {
            Value::Object(merge_fields(live, applied, Some(node)))
        }
        (Grain::Map(element), Value::Object(live), Value::Object(applied)) => {
            let mut merged = live.clone();
            for (key, value) in applied {
                let value = live.get(key).map_or_else(
                    || value.clone(),
                    |before| merge_value(before, value, element),
                );
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (Grain::Keyed(list, keys), Value::Array(live), Value::Array(applied)) => {
            let element_of = |item: &Value| keyed_element(list, &keys, item);
            Value::Array(merge_items(live, applied, &element_of, &|before, item| {
                merge_value(before, item, list.element())
            }))
        }
        (Grain::Set, Value::Array(live), Value::Array(applied)) => {
            Value::Array(merge_items(live, applied, &value_element, &|_, item| {
                item.clone()
            }))
        }
        _ => applied.clone(),
    }
}

/// Live items that the configuration does not name keep their place; named ones stand in the configuration's order.
fn merge_items(
    live: &[Value],
    applied: &[Value],
    element_of: &dyn Fn(&Value) -> String,
    merge: &dyn Fn(&Value, &Value) -> Value,
) -> Vec<Value> {
    let named: Vec<String> = applied.iter().map(element_of).collect();
    let mut merged = Vec::with_capacity(live.len() + applied.len());
    let mut next = applied.iter().zip(&named).peekable();
    let mut taken: Vec<&String> = Vec::new();
    for before in live {
        let element = element_of(before);
        if !named.contains(&element) {
            merged.push(before.clone());
            continue;
        }
        // Everything that the configuration puts before this item comes first.
        while !taken.contains(&&element) {
            let Some((item, name)) = next.next() else {
                break;
            };
            let counterpart = live.iter().find(|other| element_of(other) == *name);
            merged.push(counterpart.map_or_else(|| item.clone(), |other| merge(other, item)));
            taken.push(name);
        }
    }
    merged.extend(next.map(|(item, _)| item.clone()));
    merged
}

/// Removes the fields of `unwanted` from `object`; a removed field goes with everything below it.
pub(crate) fn remove(object: &mut Map<String, Value>, unwanted: &FieldSet, node: Node<'_>) {
    remove_fields(object, unwanted, Some(node));
}

fn remove_fields(object: &mut Map<String, Value>, unwanted: &FieldSet, node: Option<Node<'_>>) {
    object.retain(|name, value| {
        let element = field(name);
        if unwanted.has_member(&element) {
            return false;
        }
        if let Some(below) = unwanted.below(&element) {
            remove_below(value, below, node.and_then(|node| field_node(node, name)));
        }
        true
    });
}

fn remove_below(value: &mut Value, unwanted: &FieldSet, node: Option<Node<'_>>) {
    match (grain(node, value), value) {
        (Grain::Struct(node), Value::Object(object)) => remove_fields(object, unwanted, Some(node)),
        (Grain::Map(element), Value::Object(object)) => object.retain(|key, value| {
            let name = field(key);
            if let Some(below) = unwanted.below(&name) {
                remove_below(value, below, element);
            }
            !unwanted.has_member(&name)
        }),
        (Grain::Keyed(list, keys), Value::Array(items)) => items.retain_mut(|item| {
            let name = keyed_element(list, &keys, item);
            if let Some(below) = unwanted.below(&name) {
                remove_below(item, below, list.element());
            }
            !unwanted.has_member(&name)
        }),
        (Grain::Set, Value::Array(items)) => {
            items.retain(|item| !unwanted.has_member(&value_element(item)));
        }
        _ => {}
    }
}

/// The part of `last` to take away: members that nobody owns now, and structs all of whose owned fields went.
pub(crate) fn unowned(
    last: &FieldSet,
    owned: &FieldSet,
    object: &Map<String, Value>,
    node: Node<'_>,
) -> FieldSet {
    let mut set = FieldSet::default();
    unowned_fields(last, owned, object, Some(node), &mut Vec::new(), &mut set);
    set
}

fn unowned_fields(
    last: &FieldSet,
    owned: &FieldSet,
    object: &Map<String, Value>,
    node: Option<Node<'_>>,
    path: &mut Vec<String>,
    set: &mut FieldSet,
) {
    for (name, value) in object {
        let element = field(name);
        visit_unowned(
            last,
            owned,
            (
                &element,
                value,
                node.and_then(|node| field_node(node, name)),
            ),
            path,
            set,
        );
    }
}

fn visit_unowned(
    last: &FieldSet,
    owned: &FieldSet,
    (element, value, node): (&str, &Value, Option<Node<'_>>),
    path: &mut Vec<String>,
    set: &mut FieldSet,
) {
    let Some(last_below) = last.below(element) else {
        return;
    };
    path.push(element.to_owned());
    if !owned.touches(element) {
        set.insert(path);
    } else if let Some(owned_below) = owned.below(element) {
        match (grain(node, value), value) {
            (Grain::Struct(node), Value::Object(object)) => {
                unowned_fields(last_below, owned_below, object, Some(node), path, set);
            }
            (Grain::Map(inner), Value::Object(object)) => {
                for (key, value) in object {
                    visit_unowned(
                        last_below,
                        owned_below,
                        (&field(key), value, inner),
                        path,
                        set,
                    );
                }
            }
            (Grain::Keyed(list, keys), Value::Array(items)) => {
                for item in items {
                    let name = keyed_element(list, &keys, item);
                    visit_unowned(
                        last_below,
                        owned_below,
                        (&name, item, list.element()),
                        path,
                        set,
                    );
                }
            }
            (Grain::Set, Value::Array(items)) => {
                for item in items {
                    visit_unowned(
                        last_below,
                        owned_below,
                        (&value_element(item), item, None),
                        path,
                        set,
                    );
                }
            }
            _ => {}
        }
    }
    path.pop();
}

//! Takes out of a tree what its schema does not name, and what stands behind feature gates that are off.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::facts::FieldRef;
use crate::node::{Node, NodeKind, object_meta};
use crate::structural::{AdditionalProperties, Structural};

/// Removes what a custom resource's schema does not name and returns the paths of it, sorted as upstream tells them.
///
/// The metadata of the resource and of resources embedded in it is pruned by its built-in type.
pub fn prune(resource: &mut Value, schema: &Structural) -> Vec<String> {
    let mut pruner = Pruner {
        removed: Vec::new(),
        path: String::new(),
    };
    if let Some(map) = resource.as_object_mut() {
        pruner.object(map, schema, true);
    }
    pruner.removed.sort();
    pruner.removed
}

/// As [`prune`], for a value that is no resource by itself.
pub(crate) fn prune_value(value: &mut Value, schema: &Structural) -> Vec<String> {
    let mut pruner = Pruner {
        removed: Vec::new(),
        path: String::new(),
    };
    pruner.value(value, schema);
    pruner.removed
}

/// Removes nulls where the schema allows none, except where a default will take their place.
pub fn prune_non_nullable_nulls(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                if !value.is_null() {
                    return true;
                }
                match (schema.properties.get(key), &schema.additional_properties) {
                    (Some(property), _) => property.nullable || property.default.is_some(),
                    (None, Some(AdditionalProperties::Schema(values))) => {
                        values.nullable || values.default.is_some()
                    }
                    _ => true,
                }
            });
            for (key, value) in map {
                if let Some(child) = child(schema, key) {
                    prune_non_nullable_nulls(value, child);
                }
            }
        }
        Value::Array(items) => {
            if let Some(element) = &schema.items {
                for item in items {
                    prune_non_nullable_nulls(item, element);
                }
            }
        }
        _ => {}
    }
}

fn child<'a>(schema: &'a Structural, key: &str) -> Option<&'a Structural> {
    schema
        .properties
        .get(key)
        .or(match &schema.additional_properties {
            Some(AdditionalProperties::Schema(values)) => Some(values),
            _ => None,
        })
}

fn is_meta_field(key: &str) -> bool {
    matches!(key, "apiVersion" | "kind" | "metadata")
}

struct Pruner {
    removed: Vec<String>,
    path: String,
}

impl Pruner {
    /// `preserving` values keep what the schema does not name, down to where properties are named again.
    fn value(&mut self, value: &mut Value, schema: &Structural) {
        match value {
            Value::Object(map) => self.object(map, schema, schema.embedded_resource),
            Value::Array(items) => match (&schema.items, schema.preserve_unknown_fields) {
                (Some(element), _) => {
                    for (index, item) in items.iter_mut().enumerate() {
                        self.inside(&format!("[{index}]"), |this| this.value(item, element));
                    }
                }
                (None, true) => {}
                (None, false) => {
                    for (index, item) in items.iter_mut().enumerate() {
                        self.inside(&format!("[{index}]"), |this| this.everything(item));
                    }
                }
            },
            _ => {}
        }
    }

    fn object(&mut self, map: &mut Map<String, Value>, schema: &Structural, is_resource: bool) {
        let mut unknown = Vec::new();
        for (key, value) in map.iter_mut() {
            if is_resource && is_meta_field(key) {
                if key == "metadata" {
                    self.inside(key, |this| this.metadata(value));
                }
            } else if let Some(property) = schema.properties.get(key) {
                self.inside(key, |this| this.value(value, property));
            } else {
                match &schema.additional_properties {
                    Some(AdditionalProperties::Schema(values)) => {
                        self.inside(key, |this| this.value(value, values));
                    }
                    Some(AdditionalProperties::Anything) => {
                        self.inside(key, |this| this.everything(value));
                    }
                    None if schema.preserve_unknown_fields => {}
                    None => unknown.push(key.clone()),
                }
            }
        }
        for key in unknown {
            map.remove(&key);
            self.inside(&key, |this| this.removed.push(this.path.clone()));
        }
    }

    fn metadata(&mut self, value: &mut Value) {
        let Some(map) = value.as_object_mut() else {
            return;
        };
        let unknown: Vec<String> = map
            .keys()
            .filter(|key| object_meta().field(key).is_none())
            .cloned()
            .collect();
        for key in unknown {
            map.remove(&key);
            self.inside(&key, |this| this.removed.push(this.path.clone()));
        }
    }

    /// Without a schema nothing in an object is named.
    fn everything(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (key, _) in std::mem::take(map) {
                    self.inside(&key, |this| this.removed.push(this.path.clone()));
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.inside(&format!("[{index}]"), |this| this.everything(item));
                }
            }
            _ => {}
        }
    }

    fn inside(&mut self, step: &str, visit: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        visit(self);
        self.path.truncate(length);
    }
}

/// Drops the fields behind feature gates that are off, except those the old object uses already: an object written
/// while a gate was on keeps what it has.
pub fn drop_gated_fields(new: &mut Value, old: Option<&Value>, node: Node<'_>) {
    let mut kept = BTreeSet::new();
    if let Some(old) = old {
        collect_gated(old, node, &mut kept);
    }
    drop_gated(new, node, &kept);
}

fn gated(node: Option<Node<'_>>) -> Option<FieldRef> {
    match node {
        Some(Node::Field(field)) if field.is_gated_off() => Some(field),
        _ => None,
    }
}

fn collect_gated(value: &Value, node: Node<'_>, kept: &mut BTreeSet<FieldRef>) {
    match (value, node.kind()) {
        (Value::Object(map), NodeKind::Struct | NodeKind::Map) => {
            for (key, value) in map {
                let child = node.child(key);
                kept.extend(gated(child));
                if let Some(child) = child {
                    collect_gated(value, child, kept);
                }
            }
        }
        (Value::Array(items), NodeKind::List) => {
            if let Some(element) = node.element() {
                for item in items {
                    collect_gated(item, element, kept);
                }
            }
        }
        _ => {}
    }
}

fn drop_gated(value: &mut Value, node: Node<'_>, kept: &BTreeSet<FieldRef>) {
    match (value, node.kind()) {
        (Value::Object(map), NodeKind::Struct | NodeKind::Map) => {
            map.retain(|key, _| gated(node.child(key)).is_none_or(|field| kept.contains(&field)));
            for (key, value) in map {
                if let Some(child) = node.child(key) {
                    drop_gated(value, child, kept);
                }
            }
        }
        (Value::Array(items), NodeKind::List) => {
            if let Some(element) = node.element() {
                for item in items {
                    drop_gated(item, element, kept);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::TypeRef;
    use serde_json::json;

    fn schema(value: &Value) -> Structural {
        Structural::from_json(value).unwrap()
    }

    #[test]
    fn unknown_fields_go_unless_the_schema_preserves_them() {
        let schema = schema(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                         "properties": {"b": {"type": "object"}}},
                "list": {"type": "array", "items": {"type": "object"}}
            }}
        }}));
        let mut resource = json!({"kind": "A", "apiVersion": "b/v1", "metadata": {"name": "x", "z": 1},
            "spec": {"a": "", "c": 1, "free": {"d": 1, "b": {"e": 2}}, "list": [{"f": 1}]}, "g": 1});
        let removed = prune(&mut resource, &schema);
        assert_eq!(
            removed,
            [
                "g",
                "metadata.z",
                "spec.c",
                "spec.free.b.e",
                "spec.list[0].f"
            ]
        );
        assert_eq!(
            resource,
            json!({"kind": "A", "apiVersion": "b/v1", "metadata": {"name": "x"},
                   "spec": {"a": "", "free": {"d": 1, "b": {}}, "list": [{}]}})
        );
    }

    #[test]
    fn nulls_go_where_they_are_not_allowed() {
        let schema = schema(&json!({"type": "object", "properties": {
            "a": {"type": "string"}, "b": {"type": "string", "nullable": true},
            "c": {"type": "string", "default": "x"}}}));
        let mut value = json!({"a": null, "b": null, "c": null, "d": null});
        prune_non_nullable_nulls(&mut value, &schema);
        assert_eq!(value, json!({"b": null, "c": null, "d": null}));
    }

    #[test]
    fn gated_fields_go_unless_the_old_object_has_them() {
        let gated = TypeRef::all()
            .flat_map(|owner| owner.fields().map(move |field| (owner, field)))
            .find(|(_, field)| field.is_gated_off())
            .expect("a release has gates that are off");
        let node = Node::Type(gated.0);
        let before = json!({ gated.1.json_name(): {} });
        let mut new = before.clone();
        drop_gated_fields(&mut new, Some(&before), node);
        assert_eq!(new, before);
        drop_gated_fields(&mut new, None, node);
        assert_eq!(new, json!({}));
    }
}

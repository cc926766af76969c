//! Brings a decoded tree into the one form Go would write it in, so that equal objects are equal bytes.

use serde_json::{Map, Value};

use crate::facts::{FieldRef, Shape, ShapeRef, TypeRef};
use crate::node::{Node, NodeKind, object_meta};
use crate::quantity::canonical_quantity;
use crate::structural::Structural;
use crate::time::{UnixTime, format_duration, parse_duration};

/// Rewrites a tree as Go's types would write it again: fields that are always there appear, empty ones that may be left
/// out go, quantities, times and durations get their canonical text, unknown fields of built-in types go.
///
/// The tree has passed the decoder. Of custom resources only the metadata has a type.
pub fn canonicalise(tree: &mut Value, node: Node<'_>) {
    match node {
        Node::Type(type_ref) => structure(tree, type_ref),
        Node::Field(field) => shaped(tree, field.shape()),
        Node::Element(shape) => shaped(tree, shape),
        Node::CustomResource(schema) => resource(tree, schema),
        Node::Custom(schema) => below_custom(tree, schema),
    }
}

/// Lists that are always written and have nothing in them become null: what Go reads back from a store of protobuf messages,
/// which do not tell an empty list from none.
pub fn forget_empty_lists(tree: &mut Value, node: Node<'_>) {
    match tree {
        Value::Object(map) => {
            for (key, value) in map {
                let Some(child) = node.child(key) else {
                    continue;
                };
                if child.kind() == NodeKind::List && value.as_array().is_some_and(Vec::is_empty) {
                    *value = Value::Null;
                } else {
                    forget_empty_lists(value, child);
                }
            }
        }
        Value::Array(items) => {
            if let Some(element) = node.element() {
                items
                    .iter_mut()
                    .for_each(|item| forget_empty_lists(item, element));
            }
        }
        _ => {}
    }
}

/// Builds the canonical form of a type without any value: what Go writes for a zero struct.
pub fn zero_value(type_ref: TypeRef) -> Value {
    let mut tree = Value::Object(Map::new());
    structure(&mut tree, type_ref);
    tree
}

fn resource(tree: &mut Value, schema: &Structural) {
    if let Some(metadata) = tree.get_mut("metadata") {
        structure(metadata, object_meta());
    }
    below_custom(tree, schema);
}

fn below_custom(tree: &mut Value, schema: &Structural) {
    let node = Node::Custom(schema);
    match (tree, node.kind()) {
        (Value::Object(map), NodeKind::Struct | NodeKind::Map | NodeKind::Any) => {
            for (key, value) in map {
                match node.child(key) {
                    Some(Node::CustomResource(embedded)) => resource(value, embedded),
                    Some(Node::Custom(child)) => below_custom(value, child),
                    _ => {}
                }
            }
        }
        (Value::Array(items), NodeKind::List) => {
            for item in items {
                match node.element() {
                    Some(Node::CustomResource(embedded)) => resource(item, embedded),
                    Some(Node::Custom(child)) => below_custom(item, child),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn structure(tree: &mut Value, type_ref: TypeRef) {
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    let given = std::mem::take(tree.as_object_mut().expect("it was made one"));
    let mut given = given;
    let mut written = Map::new();
    for field in type_ref.fields() {
        if let Some(value) = member(given.remove(field.json_name()), field) {
            written.insert(field.json_name().to_owned(), value);
        }
    }
    *tree = Value::Object(written);
}

/// The value Go would write for a field, or `None` where it would leave it out.
fn member(given: Option<Value>, field: FieldRef) -> Option<Value> {
    let shape = field.shape();
    let may_omit = field.omit_empty() || field.omit_zero();
    let mut value = match given {
        Some(value) if !value.is_null() => value,
        _ if field.is_pointer() => return (!may_omit).then_some(Value::Null),
        _ => Value::Null,
    };
    shaped(&mut value, shape);
    let omitted = (field.omit_empty() && !field.is_pointer() && is_empty(&value, shape))
        || (field.omit_zero() && !field.is_pointer() && is_zero(&value, shape));
    (!omitted).then_some(value)
}

/// What `omitempty` leaves out; structs and whatever has its own encoder stay, nil or not.
fn is_empty(value: &Value, shape: ShapeRef) -> bool {
    match (shape.shape(), value) {
        (Shape::String | Shape::Bytes, Value::String(text)) => text.is_empty(),
        (Shape::Bool, Value::Bool(value)) => !value,
        (Shape::Int32 | Shape::Int64 | Shape::Float64, value) => value.as_f64() == Some(0.0),
        (Shape::List(_) | Shape::ListMessage(_), Value::Array(items)) => items.is_empty(),
        (Shape::Map(_), Value::Object(map)) => map.is_empty(),
        (
            Shape::List(_) | Shape::ListMessage(_) | Shape::Map(_) | Shape::Bytes | Shape::Any,
            Value::Null,
        ) => true,
        _ => false,
    }
}

fn is_zero(value: &Value, shape: ShapeRef) -> bool {
    match shape.shape() {
        Shape::Struct(type_ref) => *value == zero_value(type_ref),
        Shape::Time | Shape::MicroTime => value.is_null(),
        _ => is_empty(value, shape),
    }
}

fn shaped(value: &mut Value, shape: ShapeRef) {
    match shape.shape() {
        Shape::Struct(type_ref) => structure(value, type_ref),
        Shape::List(element) | Shape::ListMessage(element) => {
            if let Value::Array(items) = value {
                for item in items {
                    shaped(item, element);
                }
            }
        }
        Shape::Map(element) => {
            if let Value::Object(map) = value {
                for value in map.values_mut() {
                    shaped(value, element);
                }
            }
        }
        Shape::SchemaOrBool(schema) | Shape::SchemaOrArray(schema) => match value {
            Value::Object(_) => structure(value, schema),
            Value::Array(items) => items.iter_mut().for_each(|item| structure(item, schema)),
            _ => {}
        },
        Shape::SchemaOrStrings(schema) if value.is_object() => structure(value, schema),
        scalar => self::scalar(value, scalar),
    }
}

fn scalar(value: &mut Value, shape: Shape) {
    let zero = match shape {
        Shape::String => Value::from(""),
        Shape::Bool => Value::from(false),
        Shape::Int32 | Shape::Int64 | Shape::Float64 | Shape::IntOrString => Value::from(0),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from("0s"),
        _ => Value::Null,
    };
    let Value::String(text) = value else {
        if value.is_null() {
            *value = zero;
        } else if let (Shape::Float64, Some(whole)) = (shape, whole_number(value)) {
            *value = Value::from(whole);
        }
        return;
    };
    // The decoder refused what does not parse; what another writer left unparsable stays as it is.
    let canonical = match shape {
        Shape::Quantity => canonical_quantity(text).ok(),
        Shape::Time => UnixTime::parse(text).ok().map(UnixTime::to_seconds_text),
        Shape::MicroTime => UnixTime::parse_micro(text)
            .ok()
            .map(UnixTime::to_micros_text),
        Shape::Duration => parse_duration(text).ok().map(format_duration),
        _ => None,
    };
    if let Some(canonical) = canonical {
        *value = Value::String(canonical);
    }
}

/// A whole number that was written as a float; Go writes it without a point.
fn whole_number(value: &Value) -> Option<i64> {
    /// Up to here every whole number is a float.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    let number = value.as_f64().filter(|_| value.is_f64())?;
    #[allow(clippy::cast_possible_truncation)] // The range was checked.
    (number.fract() == 0.0 && number.abs() <= WHOLE_MAX).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::built_in;
    use serde_json::json;

    fn canonical(group: &str, kind: &str, mut tree: Value) -> Value {
        canonicalise(&mut tree, Node::Type(built_in(group, "v1", kind).unwrap()));
        tree
    }

    #[test]
    fn a_deployment_comes_out_as_go_writes_it() {
        let given = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "a", "labels": {},
            "creationTimestamp": null}, "spec": {"selector": null, "paused": false, "replicas": 0,
            "template": {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "0.5",
            "memory": "1024Mi"}}}]}}}});
        assert_eq!(
            canonical("apps", "Deployment", given),
            json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "a"},
            "spec": {"selector": null, "replicas": 0, "strategy": {}, "template": {"metadata": {},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "500m",
            "memory": "1Gi"}}}]}}}, "status": {}})
        );
    }

    #[test]
    fn canonical_form_is_a_fixed_point() {
        let given = json!({"metadata": {}, "spec": {"finalizers": []}});
        let once = canonical("", "Namespace", given);
        assert_eq!(canonical("", "Namespace", once.clone()), once);
    }

    #[test]
    fn lists_that_are_always_written_are_null_when_missing() {
        assert_eq!(
            canonical("rbac.authorization.k8s.io", "Role", json!({}))["rules"],
            Value::Null
        );
    }
}

//! Whether the schema in a `CustomResourceDefinition` is one: structural, without words that cannot be kept, and with
//! defaults that fit it. The rules are those of KEP-1979 (structural schemas), the texts upstream's.

mod defaults;
mod structure;
mod words;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use serde_json::{Map, Value};

/// Judges the `openAPIV3Schema` that stands at `path`.
pub fn validate_definition(schema: &Value, path: &FieldPath) -> FieldErrors {
    let mut judge = Judge {
        errors: FieldErrors::none(),
    };
    judge.words(schema, path, true);
    // Upstream looks further only at what it can read, and at defaults only in a schema that is structural.
    if is_readable(schema) {
        let words = judge.errors.len();
        judge.structure(schema, path, Level::Root);
        judge.completeness(schema, schema, path, path);
        if judge.errors.len() == words {
            judge.defaults(schema, path, Level::Root);
        }
    }
    judge.errors
}

/// Keywords that no structural schema can carry.
const UNREADABLE: [&str; 6] = [
    "id",
    "additionalItems",
    "patternProperties",
    "definitions",
    "dependencies",
    "$ref",
];

fn is_readable(schema: &Value) -> bool {
    let mut readable = !UNREADABLE.iter().any(|key| is_set(schema, key))
        && !schema.get("items").is_some_and(Value::is_array)
        && schema.get("x-kubernetes-preserve-unknown-fields") != Some(&Value::Bool(false));
    for_each_child(schema, &FieldPath::root(), &mut |child, _| {
        readable &= is_readable(child);
    });
    readable
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

struct Judge {
    errors: FieldErrors,
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn list<'a>(schema: &'a Value, key: &str) -> &'a [Value] {
    schema
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// A keyword that holds one schema.
fn below<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get(key).filter(|child| child.is_object())
}

fn is_set(schema: &Value, key: &str) -> bool {
    schema.get(key).is_some_and(|value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    })
}

impl Judge {
    fn forbid(&mut self, path: &FieldPath, key: &str, why: &str) {
        self.errors
            .push(FieldError::forbidden(&path.child(key), why));
    }

    fn require(&mut self, path: &FieldPath, key: &str, why: &str) {
        self.errors
            .push(FieldError::required(&path.child(key), why));
    }

    fn invalid(&mut self, path: &FieldPath, key: &str, value: &Value, why: &str) {
        self.errors
            .push(FieldError::invalid(&path.child(key), value.clone(), why));
    }
}

fn for_each_child(schema: &Value, path: &FieldPath, visit: &mut dyn FnMut(&Value, &FieldPath)) {
    let empty = Map::new();
    let map = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    for (name, property) in map {
        visit(property, &path.child("properties").key(name));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = below(schema, key) {
            visit(child, &path.child(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(schema: &Value) -> Vec<String> {
        let path = FieldPath::new("schema");
        let mut texts: Vec<String> = validate_definition(schema, &path)
            .iter()
            .map(ToString::to_string)
            .collect();
        texts.sort();
        texts
    }

    fn object(properties: &Value) -> Value {
        json!({"type": "object", "properties": properties})
    }

    #[test]
    fn a_schema_in_common_use_is_structural() {
        let schema = object(&json!({
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": {"type": "object", "required": ["a"], "properties": {
                "a": {"type": "string", "default": "x", "pattern": "^x$"},
                "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "c": {"type": "array", "items": {"type": "object", "required": ["k"],
                      "properties": {"k": {"type": "string"}}},
                      "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}}));
        assert_eq!(texts(&schema), [""; 0]);
    }

    #[test]
    fn what_is_not_structural_is_told_in_upstreams_words() {
        assert_eq!(
            texts(&object(&json!({"a": {}, "b": {"type": "array"}}))),
            [
                "schema.properties[a].type: Required value: must not be empty for specified object fields",
                "schema.properties[b].items: Required value: must be specified"
            ]
        );
        assert_eq!(
            texts(
                &json!({"type": "object", "properties": {"a": {"type": "string"}},
                          "allOf": [{"properties": {"b": {"type": "string"}}}]})
            ),
            [
                "schema.allOf[0].properties[b].type: Forbidden: must be empty to be structural",
                "schema.properties[b]: Required value: because it is defined in schema.allOf[0].properties[b]"
            ]
        );
        assert_eq!(
            texts(&object(
                &json!({"a": {"type": "array", "items": {"type": "string"}, "uniqueItems": true}})
            )),
            [
                "schema.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the \
              runtime complexity becomes quadratic"
            ]
        );
    }

    #[test]
    fn a_default_has_to_fit_its_own_schema() {
        let schema = object(&json!({"a": {"type": "integer", "default": "x"},
                                    "b": {"type": "object", "default": {"c": 1}}}));
        assert_eq!(
            texts(&schema),
            [
                "schema.properties[a].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
                "schema.properties[b].default: Invalid value: {\"c\":1}: must not have unknown fields"
            ]
        );
    }
}

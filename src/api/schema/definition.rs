//! Whether the schema in a `CustomResourceDefinition` is one: structural, without words that cannot be kept, and with
//! defaults that fit it. The rules are those of KEP-1979 (structural schemas), the texts upstream's.

use apimachinery::{FieldError, FieldErrors, FieldPath};
use serde_json::{Map, Value};

use crate::prune::prune_value;
use crate::structural::Structural;
use crate::validate;

/// Judges the `openAPIV3Schema` that stands at `path`.
pub fn validate_definition(schema: &Value, path: &FieldPath) -> FieldErrors {
    let mut judge = Judge {
        errors: FieldErrors::none(),
    };
    judge.words(schema, path, true);
    judge.structure(schema, path, Level::Root);
    judge.completeness(schema, schema, path, path);
    judge.defaults(schema, path);
    judge.errors
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

    /// What each level may say at all.
    fn words(&mut self, schema: &Value, path: &FieldPath, is_root: bool) {
        let value_type = text(schema, "type");
        if value_type == "null" {
            let why = "type cannot be set to null, use nullable as an alternative";
            self.forbid(path, "type", why);
        } else if !value_type.is_empty() && !TYPES.contains(&value_type) {
            self.errors.push(FieldError::not_supported(
                &path.child("type"),
                value_type,
                &TYPES,
            ));
        }
        for key in [
            "id",
            "additionalItems",
            "patternProperties",
            "definitions",
            "dependencies",
            "$ref",
        ] {
            if is_set(schema, key) {
                self.forbid(path, key, &format!("{key} is not supported"));
            }
        }
        if schema.get("items").is_some_and(Value::is_array) {
            self.forbid(
                path,
                "items",
                "items must be a schema object and not an array",
            );
        }
        if flag(schema, "uniqueItems") {
            let why =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(path, "uniqueItems", why);
        }
        if is_set(schema, "properties") && below(schema, "additionalProperties").is_some() {
            let why = "additionalProperties and properties are mutual exclusive";
            self.forbid(path, "additionalProperties", why);
        }
        if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let why = "must be true or undefined";
            self.invalid(
                path,
                "x-kubernetes-preserve-unknown-fields",
                &Value::Bool(false),
                why,
            );
        }
        let is_resource = is_root || flag(schema, "x-kubernetes-embedded-resource");
        for (name, property) in properties(schema) {
            let path = path.child("properties").key(name);
            if is_resource && matches!(&**name, "apiVersion" | "kind" | "metadata") && is_root {
                self.no_default(
                    property,
                    &path,
                    &format!("must not be set in top-level {name}"),
                );
            }
        }
        self.merge_words(schema, path);
        self.rules(schema, path);
        for_each_child(schema, path, &mut |child, path| {
            self.words(child, path, false);
        });
    }

    fn no_default(&mut self, schema: &Value, path: &FieldPath, why: &str) {
        if schema
            .get("default")
            .is_some_and(|default| !default.is_null())
        {
            self.forbid(path, "default", why);
        }
    }

    /// The extensions that say how lists and maps merge.
    fn merge_words(&mut self, schema: &Value, path: &FieldPath) {
        let value_type = text(schema, "type");
        for (key, wanted, legal) in [
            (
                "x-kubernetes-map-type",
                "object",
                &["atomic", "granular"][..],
            ),
            (
                "x-kubernetes-list-type",
                "array",
                &["atomic", "set", "map"][..],
            ),
        ] {
            let Some(given) = schema.get(key).and_then(Value::as_str) else {
                continue;
            };
            if value_type != wanted {
                let why = format!("must be {wanted} if {key} is specified");
                if value_type.is_empty() {
                    self.require(path, "type", &why);
                } else {
                    self.invalid(path, "type", &Value::from(value_type), &why);
                }
            }
            if !legal.contains(&given) {
                self.errors
                    .push(FieldError::not_supported(&path.child(key), given, legal));
            }
        }
        self.list_map_words(schema, path);
    }

    fn list_map_words(&mut self, schema: &Value, path: &FieldPath) {
        let (list_type, keys) = (
            text(schema, "x-kubernetes-list-type"),
            list(schema, "x-kubernetes-list-map-keys"),
        );
        if list_type != "map" {
            if !keys.is_empty() {
                let why = "must be map if x-kubernetes-list-map-keys is non-empty";
                if list_type.is_empty() {
                    self.require(path, "x-kubernetes-list-type", why);
                } else {
                    self.invalid(path, "x-kubernetes-list-type", &Value::from(list_type), why);
                }
            }
            return;
        }
        if keys.is_empty() {
            let why = "must not be empty if x-kubernetes-list-type is map";
            self.require(path, "x-kubernetes-list-map-keys", why);
        }
        let Some(items) = below(schema, "items") else {
            self.require(
                path,
                "items",
                "must have a schema if x-kubernetes-list-type is map",
            );
            return;
        };
        let items_path = path.child("items");
        if text(items, "type") != "object" {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            self.invalid(&items_path, "type", &Value::from(text(items, "type")), why);
            return;
        }
        let given = Value::Array(keys.to_vec());
        for (index, key) in keys.iter().enumerate() {
            let name = key.as_str().unwrap_or_default();
            match items
                .get("properties")
                .and_then(|properties| properties.get(name))
            {
                None => {
                    let why = "entries must all be names of item properties";
                    self.invalid(path, "x-kubernetes-list-map-keys", &given, why);
                }
                Some(property) if matches!(text(property, "type"), "array" | "object") => {
                    let why =
                        "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    let path = items_path.child("properties").key(name);
                    self.invalid(&path, "type", &Value::from(text(items, "type")), why);
                }
                Some(property) => {
                    let is_required = list(items, "required").contains(key);
                    let has_default = property
                        .get("default")
                        .is_some_and(|value| !value.is_null());
                    if !is_required && !has_default {
                        let why = "this property is in x-kubernetes-list-map-keys, so it must have a \
                                   default or be a required property";
                        let path = items_path.child("properties").key(name);
                        self.require(&path, "default", why);
                    }
                }
            }
            if keys[..index].contains(key) {
                let why = "must not contain duplicate entries";
                self.invalid(path, "x-kubernetes-list-map-keys", &given, why);
            }
        }
    }

    fn rules(&mut self, schema: &Value, path: &FieldPath) {
        for (index, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
            let path = path.child("x-kubernetes-validations").index(index);
            let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
            let given = Value::from(message);
            if expression.is_empty() {
                self.require(&path, "rule", "rule is not specified");
            } else if !message.is_empty() && message.trim().is_empty() {
                self.invalid(&path, "message", &given, "must be non-empty if specified");
            } else if message.trim().contains('\n') {
                self.invalid(&path, "message", &given, "must not contain line breaks");
            } else if expression.contains('\n') && message.trim().is_empty() {
                let why = "message must be specified if rule contains line breaks";
                self.require(&path, "message", why);
            }
        }
    }

    fn structure(&mut self, schema: &Value, path: &FieldPath, level: Level) {
        let value_type = text(schema, "type");
        if value_type == "array" && schema.get("items").is_none() {
            self.require(path, "items", "must be specified");
        }
        if level == Level::Root && is_set(schema, "additionalProperties") {
            self.forbid(path, "additionalProperties", "must not be used at the root");
        }
        if flag(schema, "x-kubernetes-int-or-string") {
            for key in [
                "x-kubernetes-preserve-unknown-fields",
                "x-kubernetes-embedded-resource",
            ] {
                if flag(schema, key) {
                    let why = "must be false if x-kubernetes-int-or-string is true";
                    self.invalid(path, key, &Value::Bool(true), why);
                }
            }
        }
        self.type_of_level(schema, path, level);
        self.metadata(schema, path, level);
        self.alternatives(schema, path);
        if let Some(items) = below(schema, "items") {
            self.structure(items, &path.child("items"), Level::Item);
        }
        for (name, property) in properties(schema) {
            self.structure(property, &path.child("properties").key(name), Level::Field);
        }
        if let Some(values) = below(schema, "additionalProperties") {
            self.structure(values, &path.child("additionalProperties"), Level::Field);
        }
    }

    fn type_of_level(&mut self, schema: &Value, path: &FieldPath, level: Level) {
        let value_type = text(schema, "type");
        let embedded = flag(schema, "x-kubernetes-embedded-resource");
        let preserves = flag(schema, "x-kubernetes-preserve-unknown-fields");
        if embedded && value_type != "object" {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            if value_type.is_empty() {
                self.require(path, "type", why);
            } else {
                self.invalid(path, "type", &Value::from(value_type), why);
            }
        } else if value_type.is_empty() && !flag(schema, "x-kubernetes-int-or-string") && !preserves
        {
            self.require(
                path,
                "type",
                match level {
                    Level::Root => "must not be empty at the root",
                    Level::Item => "must not be empty for specified array items",
                    Level::Field => "must not be empty for specified object fields",
                },
            );
        }
        if level == Level::Root && !value_type.is_empty() && value_type != "object" {
            self.invalid(
                path,
                "type",
                &Value::from(value_type),
                "must be object at the root",
            );
        }
        if embedded && is_set(schema, "additionalProperties") {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            self.forbid(path, "additionalProperties", why);
        }
        if embedded && !preserves && !is_set(schema, "properties") {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                       x-kubernetes-preserve-unknown-fields";
            self.require(path, "properties", why);
        }
    }

    fn metadata(&mut self, schema: &Value, path: &FieldPath, level: Level) {
        let is_resource = level == Level::Root || flag(schema, "x-kubernetes-embedded-resource");
        let property = |name| {
            schema
                .get("properties")
                .and_then(|properties| properties.get(name))
        };
        let at = |name| path.child("properties").key(name);
        for (name, wanted) in [
            ("kind", "string"),
            ("apiVersion", "string"),
            ("metadata", "object"),
        ] {
            if let Some(found) = property(name).filter(|_| is_resource)
                && text(found, "type") != wanted
            {
                let value = Value::from(text(found, "type"));
                self.invalid(&at(name), "type", &value, &format!("must be {wanted}"));
            }
        }
        if let Some(metadata) = property("metadata").filter(|_| level == Level::Root) {
            let only_names =
                properties(metadata).all(|(name, _)| matches!(&**name, "name" | "generateName"));
            let other = metadata.as_object().into_iter().flatten().any(|(key, _)| {
                !matches!(
                    &**key,
                    "type" | "properties" | "default" | "description" | "title"
                )
            });
            if !only_names || other {
                let why = "must not specify anything other than name and generateName, but metadata \
                           is implicitly specified";
                self.errors
                    .push(FieldError::forbidden(&at("metadata"), why));
            }
        }
    }

    /// The patterns of this level, and what stands under `allOf`, `anyOf`, `oneOf` and `not`.
    fn alternatives(&mut self, schema: &Value, path: &FieldPath) {
        let is_int_or_string = |schemas: &[Value]| {
            let types: Vec<&str> = schemas.iter().map(|schema| text(schema, "type")).collect();
            types == ["integer", "string"]
        };
        if !is_int_or_string(list(schema, "anyOf")) {
            self.nested_list(schema, "anyOf", path);
        }
        for (index, nested) in list(schema, "allOf").iter().enumerate() {
            let path = path.child("allOf").index(index);
            if index == 0 && is_int_or_string(list(nested, "anyOf")) {
                continue;
            }
            self.nested(nested, &path);
        }
        self.nested_list(schema, "oneOf", path);
        if let Some(not) = below(schema, "not") {
            self.nested(not, &path.child("not"));
        }
        let pattern = text(schema, "pattern");
        if let Err(why) = crate::pattern::Pattern::new(pattern).matches("") {
            let why = format!("must be a valid regular expression, but isn't: {why}");
            self.invalid(path, "pattern", &Value::from(pattern), &why);
        }
    }

    fn nested_list(&mut self, schema: &Value, key: &str, path: &FieldPath) {
        for (index, nested) in list(schema, key).iter().enumerate() {
            self.nested(nested, &path.child(key).index(index));
        }
    }

    /// Alternatives may judge values, and nothing else.
    fn nested(&mut self, schema: &Value, path: &FieldPath) {
        for (key, why) in [
            ("type", "must be empty to be structural"),
            ("additionalProperties", "must be undefined to be structural"),
            ("default", "must be undefined to be structural"),
            ("title", "must be empty to be structural"),
            ("description", "must be empty to be structural"),
            ("nullable", "must be false to be structural"),
            (
                "x-kubernetes-preserve-unknown-fields",
                "must be false to be structural",
            ),
            (
                "x-kubernetes-embedded-resource",
                "must be false to be structural",
            ),
            (
                "x-kubernetes-int-or-string",
                "must be false to be structural",
            ),
            (
                "x-kubernetes-list-map-keys",
                "must be empty to be structural",
            ),
            (
                "x-kubernetes-list-type",
                "must be undefined to be structural",
            ),
            (
                "x-kubernetes-map-type",
                "must be undefined to be structural",
            ),
            ("x-kubernetes-validations", "must be empty to be structural"),
        ] {
            if is_set(schema, key) {
                self.forbid(path, key, why);
            }
        }
        if let Some(items) = below(schema, "items") {
            self.nested(items, &path.child("items"));
        }
        for (name, property) in properties(schema) {
            let path = path.child("properties").key(name);
            if name == "metadata" {
                let why = "must not be specified in a nested context";
                self.errors.push(FieldError::forbidden(&path, why));
            }
            self.nested(property, &path);
        }
        self.alternatives(schema, path);
    }

    /// What an alternative speaks of has to be described outside of it.
    fn completeness(&mut self, judged: &Value, outside: &Value, path: &FieldPath, at: &FieldPath) {
        for key in ["allOf", "anyOf", "oneOf"] {
            for (index, nested) in list(judged, key).iter().enumerate() {
                self.described(nested, Some(outside), path, &at.child(key).index(index));
            }
        }
        if let Some(not) = below(judged, "not") {
            self.described(not, Some(outside), path, &at.child("not"));
        }
    }

    fn described(
        &mut self,
        nested: &Value,
        outside: Option<&Value>,
        path: &FieldPath,
        at: &FieldPath,
    ) {
        let Some(outside) = outside else {
            let why = format!("because it is defined in {at}");
            self.errors.push(FieldError::required(path, why));
            return;
        };
        self.completeness(nested, outside, path, at);
        if let Some(items) = below(nested, "items") {
            let (path, at) = (path.child("items"), at.child("items"));
            self.described(items, below(outside, "items"), &path, &at);
        }
        for (name, property) in properties(nested) {
            let (path, at) = (
                path.child("properties").key(name),
                at.child("properties").key(name),
            );
            let outside = outside
                .get("properties")
                .and_then(|properties| properties.get(name));
            self.described(property, outside, &path, &at);
        }
    }

    /// A default has to be a value of its own schema, without fields the schema does not name.
    fn defaults(&mut self, schema: &Value, path: &FieldPath) {
        let default = schema.get("default").filter(|default| !default.is_null());
        if let Some(default) = default
            && let Ok(structural) = Structural::from_json(schema)
        {
            let path = path.child("default");
            let mut pruned = default.clone();
            if !prune_value(&mut pruned, &structural).is_empty() {
                let why = "must not have unknown fields";
                self.errors
                    .push(FieldError::invalid(&path, default.clone(), why));
            }
            for mut error in validate::validate(default, &structural) {
                error.path = match error.path.as_str() {
                    "" => path.clone(),
                    below if below.starts_with('[') => {
                        FieldPath::new(&format!("{}{below}", path.as_str()))
                    }
                    below => path.child(below),
                };
                self.errors.push(error);
            }
        }
        for_each_child(schema, path, &mut |child, path| self.defaults(child, path));
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

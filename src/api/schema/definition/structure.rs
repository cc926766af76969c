//! What makes a schema structural: a type everywhere, and alternatives that judge values and describe nothing.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{Judge, Level, below, flag, is_set, list, properties, text};
use crate::pattern::Pattern;

impl Judge {
    pub(super) fn structure(&mut self, schema: &Value, path: &FieldPath, level: Level) {
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
        if let Err(why) = Pattern::new(pattern).matches("") {
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
    pub(super) fn completeness(
        &mut self,
        judged: &Value,
        outside: &Value,
        path: &FieldPath,
        at: &FieldPath,
    ) {
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
}

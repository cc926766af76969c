//! What each level of a schema may say at all, and which keywords go together.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{
    Judge, TYPES, UNREADABLE, below, flag, for_each_child, is_set, list, properties, text,
};

impl Judge {
    /// What each level may say at all.
    pub(super) fn words(&mut self, schema: &Value, path: &FieldPath, is_root: bool) {
        let value_type = text(schema, "type");
        if value_type == "null" {
            let why = "type cannot be set to null, use nullable as an alternative";
            self.forbid(path, "type", why);
        }
        if !value_type.is_empty() && !TYPES.contains(&value_type) {
            self.errors.push(FieldError::not_supported(
                &path.child("type"),
                value_type,
                &TYPES,
            ));
        }
        for key in UNREADABLE {
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
            if is_resource && matches!(&**name, "apiVersion" | "kind" | "metadata") {
                let why = is_root.then(|| format!("must not be set in top-level {name}"));
                let path = path.child("properties").key(name);
                self.inside_metadata(property, &path, why.as_deref());
            }
        }
        self.merge_words(schema, path);
        self.rules(schema, path);
        for_each_child(schema, path, &mut |child, path| {
            self.words(child, path, false);
        });
    }

    /// The fields of a resource that have a type already take no defaults at the top and embed nothing.
    fn inside_metadata(&mut self, schema: &Value, path: &FieldPath, no_default: Option<&str>) {
        let has_default = schema
            .get("default")
            .is_some_and(|default| !default.is_null());
        if let Some(why) = no_default.filter(|_| has_default) {
            self.forbid(path, "default", why);
        }
        if flag(schema, "x-kubernetes-embedded-resource") {
            let why = "must not be used inside of resource meta";
            self.forbid(path, "x-kubernetes-embedded-resource", why);
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            for (index, nested) in list(schema, key).iter().enumerate() {
                self.inside_metadata(nested, &path.child(key).index(index), no_default);
            }
        }
        for_each_child(schema, path, &mut |child, path| {
            self.inside_metadata(child, path, no_default);
        });
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
        self.set_words(schema, path);
        self.list_map_words(schema, path);
    }

    /// The elements of a set are compared, and so replaced, as wholes.
    fn set_words(&mut self, schema: &Value, path: &FieldPath) {
        let list_type = text(schema, "x-kubernetes-list-type");
        if matches!(list_type, "set" | "map")
            && below(schema, "items").is_some_and(|items| flag(items, "nullable"))
        {
            let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            self.forbid(&path.child("items"), "nullable", &why);
        }
        let is_set =
            text(schema, "type") == "array" && text(schema, "x-kubernetes-list-type") == "set";
        let Some(items) = below(schema, "items").filter(|_| is_set) else {
            return;
        };
        let list_type = items
            .get("x-kubernetes-list-type")
            .cloned()
            .unwrap_or(Value::Null);
        let wrong = match text(items, "type") {
            "array" if !matches!(list_type.as_str(), None | Some("atomic")) => {
                "x-kubernetes-list-type"
            }
            "object" if text(items, "x-kubernetes-map-type") != "atomic" => "x-kubernetes-map-type",
            _ => return,
        };
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        self.invalid(&path.child("items"), wrong, &list_type, why);
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
        self.list_map_keys(items, keys, path);
    }

    /// Each key has to be a scalar property that every element has.
    fn list_map_keys(&mut self, items: &Value, keys: &[Value], path: &FieldPath) {
        let items_path = path.child("items");
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
                    if flag(property, "nullable") {
                        let why = "this property is in x-kubernetes-list-map-keys, so it cannot be \
                                   nullable";
                        let path = items_path.child("properties").key(name);
                        self.forbid(&path, "nullable", why);
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
}

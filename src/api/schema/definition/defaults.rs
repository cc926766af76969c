//! Defaults have to fit the schema they stand in.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{Judge, Level, below, properties, text};
use crate::prune::{prune, prune_value};
use crate::structural::Structural;
use crate::validate;

impl Judge {
    /// A default has to be a value of its own schema, without fields the schema does not name.
    pub(super) fn defaults(&mut self, schema: &Value, path: &FieldPath, level: Level) {
        let default = schema.get("default").filter(|default| !default.is_null());
        if let Some(default) = default
            && let Ok(structural) = Structural::from_json(&without_int_or_string(schema))
        {
            let is_resource = level == Level::Root || structural.embedded_resource;
            self.default(default, &structural, &path.child("default"), is_resource);
        }
        // Defaults under additionalProperties never apply to anything.
        if let Some(items) = below(schema, "items") {
            self.defaults(items, &path.child("items"), Level::Item);
        }
        for (name, property) in properties(schema) {
            self.defaults(property, &path.child("properties").key(name), Level::Field);
        }
    }

    fn default(
        &mut self,
        default: &Value,
        structural: &Structural,
        path: &FieldPath,
        is_resource: bool,
    ) {
        let mut pruned = default.clone();
        let unknown = if is_resource {
            prune(&mut pruned, structural)
        } else {
            prune_value(&mut pruned, structural)
        };
        if !unknown.is_empty() {
            let why = "must not have unknown fields";
            self.errors
                .push(FieldError::invalid(path, default.clone(), why));
        }
        if is_resource && default.is_object() {
            let missing = ["apiVersion", "kind"].map(|key| (key, text(default, key).is_empty()));
            for (key, _) in missing.iter().filter(|(_, is_missing)| *is_missing) {
                self.errors.push(FieldError::required(&path.child(key), ""));
            }
            if missing.iter().any(|(_, is_missing)| *is_missing) {
                return;
            }
        }
        for mut error in validate::validate(default, structural) {
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
}

/// Upstream does not check the type of defaults that are an integer or a string.
fn without_int_or_string(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let kept = map
                .iter()
                .filter(|(key, _)| *key != "x-kubernetes-int-or-string");
            Value::Object(
                kept.map(|(key, value)| (key.clone(), without_int_or_string(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_int_or_string).collect()),
        other => other.clone(),
    }
}

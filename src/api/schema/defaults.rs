//! Fills in the defaults that a custom resource's schema gives.
//!
//! Built-in kinds have hooks of their own: what upstream's functions default is more than a schema can say.

use serde_json::Value;

use crate::structural::{AdditionalProperties, Structural};

/// Sets what is missing, or null where null is not allowed, to its default; defaults apply below defaults too.
pub fn apply_defaults(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(map) => {
            for (key, property) in &schema.properties {
                let Some(default) = &property.default else {
                    continue;
                };
                if map
                    .get(key)
                    .is_none_or(|value| value.is_null() && !property.nullable)
                {
                    map.insert(key.clone(), default.clone());
                }
            }
            for (key, value) in map {
                let values = match &schema.additional_properties {
                    Some(AdditionalProperties::Schema(values)) => Some(&**values),
                    _ => None,
                };
                if let Some(property) = schema.properties.get(key) {
                    apply_defaults(value, property);
                } else if let Some(values) = values {
                    apply_element(value, values);
                }
            }
        }
        Value::Array(items) => {
            if let Some(element) = &schema.items {
                for item in items {
                    apply_element(item, element);
                }
            }
        }
        _ => {}
    }
}

fn apply_element(value: &mut Value, schema: &Structural) {
    if value.is_null() && !schema.nullable {
        *value = schema.default.clone().unwrap_or(Value::Null);
    }
    apply_defaults(value, schema);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_fill_what_is_missing_at_every_level() {
        let schema = Structural::from_json(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "default": {}, "properties": {
                "replicas": {"type": "integer", "default": 1},
                "ports": {"type": "array", "items": {"type": "object", "properties": {
                    "protocol": {"type": "string", "default": "TCP"}}}},
                "kept": {"type": "string", "nullable": true, "default": "x"}}}}}))
        .unwrap();
        let mut empty = json!({});
        apply_defaults(&mut empty, &schema);
        assert_eq!(empty, json!({"spec": {"replicas": 1, "kept": "x"}}));
        let mut given = json!({"spec": {"replicas": null, "ports": [{}], "kept": null}});
        apply_defaults(&mut given, &schema);
        assert_eq!(
            given,
            json!({"spec": {"replicas": 1, "ports": [{"protocol": "TCP"}], "kept": null}})
        );
    }
}

//! The models of custom resources: their schema with the fields every object has, reduced to what each version of
//! `OpenAPI` and the clients of version 2 can take.

use serde_json::{Map, Value, json};

use super::components::Components;
use super::{CustomSchema, Dialect, ResourcePaths, model_name};

/// Models whose fields that every object has are described as they are described for custom resources.
const MODEL: &str = "io.k8s.api.core.v1.ConfigMap";
const LIST_MODEL: &str = "io.k8s.api.core.v1.ConfigMapList";

/// Adds the models of a custom resource and of its list.
pub(super) fn models(
    components: &mut Components<'_>,
    resource: &ResourcePaths<'_>,
    custom: &CustomSchema<'_>,
) {
    let name = model_name(resource.group, resource.version, resource.kind);
    let list_name = model_name(resource.group, resource.version, resource.list_kind);
    let mut object = object(components, custom);
    object["x-kubernetes-group-version-kind"] = kind(resource, resource.kind);
    let reference = components.dialect.reference(&name);
    let mut list = json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {"type": "array", "items": reference},
            "metadata": metadata(components, "ListMeta"),
            "apiVersion": described(components, LIST_MODEL, "apiVersion", json!({"type": "string"})),
            "kind": described(components, LIST_MODEL, "kind", json!({"type": "string"})),
        },
        "x-kubernetes-group-version-kind": kind(resource, resource.list_kind),
    });
    if !custom.selectable_fields.is_empty() {
        let fields: Vec<Value> = custom
            .selectable_fields
            .iter()
            .map(|path| json!({"fieldPath": path.trim_start_matches('.')}))
            .collect();
        object["x-kubernetes-selectable-fields"] = Value::Array(fields.clone());
        list["x-kubernetes-selectable-fields"] = Value::Array(fields);
    }
    components.insert(name, object);
    components.insert(list_name, list);
}

fn kind(resource: &ResourcePaths<'_>, kind: &str) -> Value {
    json!([{"group": resource.group, "version": resource.version, "kind": kind}])
}

fn metadata(components: &mut Components<'_>, name: &str) -> Value {
    let reference = components.meta_reference(name);
    let model = if name == "ListMeta" {
        LIST_MODEL
    } else {
        MODEL
    };
    let property = match components.dialect {
        Dialect::V2 => reference,
        Dialect::V3 => json!({"allOf": [reference]}),
    };
    described(components, model, "metadata", property)
}

/// The property with the description that the field of a built-in model has.
fn described(components: &Components<'_>, model: &str, field: &str, mut property: Value) -> Value {
    components.describe(&mut property, model, field);
    property
}

fn object(components: &mut Components<'_>, custom: &CustomSchema<'_>) -> Value {
    let Some(given) = custom
        .open_api_v3_schema
        .filter(|schema| schema.is_object())
    else {
        // With any property named, kubectl would take all others for wrong.
        return json!({"type": "object"});
    };
    if components.dialect == Dialect::V2
        && (custom.preserve_unknown_fields || flag(given, "x-kubernetes-preserve-unknown-fields"))
    {
        return json!({"type": "object"});
    }
    let mut schema = given.clone();
    unfold_int_or_string(&mut schema);
    if components.dialect == Dialect::V2 {
        reduce_to_v2(&mut schema);
    }
    add_object_fields(components, &mut schema);
    embed(components, &mut schema);
    schema
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn add_object_fields(components: &mut Components<'_>, schema: &mut Value) {
    let object_meta = metadata(components, "ObjectMeta");
    let map = schema.as_object_mut().expect("only objects come here");
    let properties = map
        .entry("properties")
        .or_insert_with(|| Value::Object(Map::new()));
    properties["metadata"] = object_meta;
    for name in ["apiVersion", "kind"] {
        properties[name] = described(components, MODEL, name, json!({"type": "string"}));
    }
}

/// Visits the schemas below: properties, items, additional properties.
fn for_each_child(schema: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(&mut *visit);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = schema.get_mut(key).filter(|child| child.is_object()) {
            visit(child);
        }
    }
}

/// An int-or-string without alternatives gets the two it stands for.
fn unfold_int_or_string(schema: &mut Value) {
    let has_alternatives = schema.get("anyOf").is_some() || schema.get("allOf").is_some();
    if flag(schema, "x-kubernetes-int-or-string") && !has_alternatives {
        schema["anyOf"] = json!([{"type": "integer"}, {"type": "string"}]);
    }
    for_each_child(schema, &mut unfold_int_or_string);
}

/// Drops what version 2 has no words for, and what kubectl reads wrongly in it.
fn reduce_to_v2(schema: &mut Value) {
    let nullable_fields: Vec<String> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, property)| flag(property, "nullable"))
        .map(|(name, _)| name.clone())
        .collect();
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    for key in ["allOf", "oneOf", "anyOf", "not"] {
        map.remove(key);
    }
    let preserves = map
        .get("x-kubernetes-preserve-unknown-fields")
        .and_then(Value::as_bool)
        == Some(true);
    if map.remove("nullable") == Some(Value::Bool(true)) {
        map.remove("type");
        map.remove("items");
        map.remove("properties");
    }
    if preserves {
        map.remove("items");
        map.remove("properties");
    }
    let is = |map: &Map<String, Value>, name: &str| {
        map.get("type").and_then(Value::as_str) == Some(name)
    };
    if (is(map, "array") && !map.contains_key("items")) || (is(map, "object") && preserves) {
        map.remove("type");
    }
    let nullable_values = map
        .get("additionalProperties")
        .is_some_and(|values| flag(values, "nullable"));
    if let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| {
            let name = name.as_str().unwrap_or_default();
            !nullable_values && !nullable_fields.iter().any(|nullable| nullable == name)
        });
        if required.is_empty() {
            map.remove("required");
        }
    }
    for_each_child(schema, &mut reduce_to_v2);
}

/// Embedded resources have the fields every object has.
fn embed(components: &mut Components<'_>, schema: &mut Value) {
    for_each_child(schema, &mut |child| embed(components, child));
    let preserves = flag(schema, "x-kubernetes-preserve-unknown-fields");
    if preserves && components.dialect == Dialect::V2 {
        return;
    }
    if flag(schema, "x-kubernetes-embedded-resource") {
        add_object_fields(components, schema);
        let map = schema.as_object_mut().expect("it has flags");
        let required = map.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            for name in ["kind", "apiVersion"] {
                if !required.iter().any(|found| found == name) {
                    required.push(Value::from(name));
                }
            }
        }
    }
}

//! The parameters of requests: those of a path, and those that the options of a verb are in the query.

use std::collections::BTreeMap;

use schema::{FieldRef, Shape};
use serde_json::{Map, Value, json};

use super::Dialect;
use super::components::Components;

/// Where descriptions of what belongs to no model are found.
const OWN: &str = "parameters";
/// What tells options apart from other objects is no parameter.
const NOT_ASKED: &[&str] = &["kind", "apiVersion"];

/// The fields of a model of options, as parameters of a query. What has fields of its own cannot stand there.
pub(super) fn of_options(components: &Components<'_>, model: &str, without: &[&str]) -> Vec<Value> {
    let options = schema::type_named(model);
    options
        .into_iter()
        .flat_map(schema::TypeRef::fields)
        .filter(|field| ![NOT_ASKED, without].concat().contains(&field.json_name()))
        .filter_map(|field| {
            let name = field.json_name();
            let mut parameter = json!({"name": name, "in": "query"});
            typed(&mut parameter, query_type(field)?, components.dialect);
            components.describe(&mut parameter, model, name);
            Some(parameter)
        })
        .collect()
}

fn query_type(field: FieldRef) -> Option<&'static str> {
    match field.shape().shape() {
        Shape::Bool => Some("boolean"),
        Shape::Int32 | Shape::Int64 => Some("integer"),
        Shape::Struct(_) | Shape::Time => None,
        // A number may be given several times.
        Shape::List(element) if element.shape() == Shape::Int32 => Some("integer"),
        _ => Some("string"),
    }
}

/// Asks for an answer that people can read.
pub(super) fn pretty(components: &Components<'_>) -> Value {
    let mut parameter = json!({"name": "pretty", "in": "query"});
    typed(&mut parameter, "string", components.dialect);
    components.describe(&mut parameter, OWN, "pretty");
    parameter
}

/// A part of a path.
pub(super) fn in_path(name: &str, description: &str, dialect: Dialect) -> Value {
    let mut parameter =
        json!({"name": name, "in": "path", "required": true, "description": description});
    typed(&mut parameter, "string", dialect);
    parameter
}

fn typed(parameter: &mut Value, type_name: &str, dialect: Dialect) {
    let schema = json!({"type": type_name, "uniqueItems": true});
    match dialect {
        Dialect::V2 => {
            parameter["type"] = schema["type"].clone();
            parameter["uniqueItems"] = Value::from(true);
        }
        Dialect::V3 => parameter["schema"] = schema,
    }
}

/// Moves what every operation of a path takes to the path, beside `parameters`, which are parts of the path itself.
/// A body belongs to its operation.
pub(super) fn lift_common(item: &mut Map<String, Value>, mut parameters: Vec<Value>) {
    let mut takers: BTreeMap<String, usize> = BTreeMap::new();
    let mut common: BTreeMap<String, Value> = BTreeMap::new();
    let operations = item.len();
    let is_no_body = |parameter: &&Value| parameter["in"] != "body";
    for parameter in item.values().flat_map(own_parameters).filter(is_no_body) {
        let count = takers.entry(key(parameter)).or_default();
        *count += 1;
        if *count == operations {
            common.insert(key(parameter), parameter.clone());
        }
    }
    for operation in item.values_mut() {
        let mut own = own_parameters(operation).cloned().collect::<Vec<_>>();
        own.retain(|parameter| !common.contains_key(&key(parameter)));
        own.sort_by_key(key);
        match operation.as_object_mut() {
            Some(operation) if own.is_empty() => {
                operation.remove("parameters");
            }
            _ => operation["parameters"] = Value::Array(own),
        }
    }
    parameters.extend(common.into_values());
    parameters.sort_by_key(key);
    item.insert("parameters".to_owned(), Value::Array(parameters));
}

fn own_parameters(operation: &Value) -> impl Iterator<Item = &Value> {
    operation["parameters"].as_array().into_iter().flatten()
}

/// Parameters are the same if they have one name and stand in one place.
fn key(parameter: &Value) -> String {
    format!("{} {}", parameter["name"], parameter["in"])
}

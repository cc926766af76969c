//! Lists that are sets or maps: their elements must differ, and an update finds the old element by its key.

use apimachinery::{FieldError, FieldErrors, FieldPath};
use serde_json::{Map, Value};

use crate::facts::ListType;
use crate::structural::{AdditionalProperties, Structural};

/// Tells the repeated elements of all sets and maps in a resource.
pub fn validate_list_types(resource: &Value, schema: &Structural) -> FieldErrors {
    let mut errors = FieldErrors::none();
    visit(&FieldPath::root(), resource, schema, &mut errors);
    errors
}

fn visit(path: &FieldPath, value: &Value, schema: &Structural, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(property) = schema.properties.get(key) {
                    visit(&path.child(key), value, property, errors);
                } else if let Some(AdditionalProperties::Schema(values)) =
                    &schema.additional_properties
                {
                    visit(&path.key(key), value, values, errors);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type {
                Some(ListType::Set) => repeated(path, items, items, errors),
                Some(ListType::Map) => repeated_keys(path, items, schema, errors),
                _ => {}
            }
            if let Some(element) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    visit(&path.index(index), item, element, errors);
                }
            }
        }
        _ => {}
    }
}

/// Tells the first repetition of each value.
fn repeated(path: &FieldPath, keys: &[Value], shown: &[Value], errors: &mut FieldErrors) {
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].iter().filter(|before| *before == key).count() == 1 {
            errors.push(FieldError::duplicate(
                &path.index(index),
                shown[index].clone(),
            ));
        }
    }
}

fn repeated_keys(path: &FieldPath, items: &[Value], schema: &Structural, errors: &mut FieldErrors) {
    for (index, item) in items.iter().enumerate() {
        if !item.is_object() && !item.is_null() {
            let text = "must be an object for an array of list-type map";
            errors.push(FieldError::invalid(&path.index(index), item.clone(), text));
            return;
        }
    }
    let keys: Vec<Value> = items.iter().map(|item| key_of(item, schema)).collect();
    repeated(path, &keys, &keys, errors);
}

/// The members of an element that are its key.
fn key_of(item: &Value, schema: &Structural) -> Value {
    let members = schema.list_map_keys.iter().filter_map(|key| {
        let value = item.get(key)?;
        Some((key.clone(), value.clone()))
    });
    Value::Object(members.collect::<Map<_, _>>())
}

/// The old element that a new one continues: of equal key in a map, at the same place in a plain list; none in a set,
/// where a different element is another one.
pub(super) fn correlated<'a>(
    old: Option<&'a Value>,
    item: &Value,
    index: usize,
    schema: &Structural,
) -> Option<&'a Value> {
    let old = old?.as_array()?;
    match schema.list_type {
        Some(ListType::Map) => {
            let key = key_of(item, schema);
            old.iter().find(|old| key_of(old, schema) == key)
        }
        Some(ListType::Set) => old.iter().find(|old| *old == item),
        Some(ListType::Atomic) | None => old.get(index),
    }
}

//! Judges a custom resource by the keywords of its schema, in the words of upstream's validator.
//!
//! Expression rules are not judged here. Values that an update leaves as they were are not judged again, so that a
//! stricter schema does not lock existing objects (KEP-4008, ratcheting).

mod composite;
mod format;
mod list_types;
mod number;

use std::fmt::Display;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use serde_json::{Map, Value};

use crate::structural::{AdditionalProperties, Structural, StructuralType, Validation};

pub use list_types::validate_list_types;

/// Judges a whole resource.
pub fn validate(resource: &Value, schema: &Structural) -> FieldErrors {
    validate_update(resource, None, schema)
}

/// Judges the changed resource; what equals the old one at the same place is accepted.
pub fn validate_update(resource: &Value, old: Option<&Value>, schema: &Structural) -> FieldErrors {
    let mut found: Vec<FieldError> = Vec::new();
    for error in judge(Place { path: "", old }, resource, schema).errors {
        // Several alternatives may say the same.
        if !found.contains(&error) {
            found.push(error);
        }
    }
    let mut errors = FieldErrors::none();
    errors.extend(found);
    errors
}

/// Where a value stands and what stood there before.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a str,
    old: Option<&'a Value>,
}

impl Place<'_> {
    fn field_path(self) -> FieldPath {
        FieldPath::new(self.path.trim_start_matches('.'))
    }

    /// Upstream's texts: where, then "in body", then what should be.
    fn should(self, what: impl Display) -> String {
        format!("{} in body should {what}", self.path)
    }

    fn invalid(self, value: &Value, what: impl Display) -> FieldError {
        FieldError::invalid(&self.field_path(), value.clone(), self.should(what))
    }

    fn wrong_type(self, expected: &str, found: &str) -> FieldError {
        let text = format!(
            "{} in body must be of type {expected}: {found:?}",
            self.path
        );
        FieldError::type_invalid(&self.field_path(), found, text)
    }
}

/// What was found; the count of checks done picks the closest of several alternatives.
#[derive(Default)]
struct Findings {
    errors: Vec<FieldError>,
    checks: usize,
}

impl Findings {
    fn of(error: Option<FieldError>) -> Self {
        Self {
            errors: error.into_iter().collect(),
            checks: 0,
        }
    }

    fn merge(&mut self, other: Self) {
        self.errors.extend(other.errors);
        self.checks += other.checks;
    }

    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

fn judge(place: Place<'_>, value: &Value, schema: &Structural) -> Findings {
    if place.old == Some(value) {
        return Findings::default();
    }
    let validation = schema.validation();
    let mut findings = Findings::default();
    findings.merge(judge_type(place, value, schema));
    if value.is_null() {
        findings.merge(judge_enum(place, value, validation));
        return findings;
    }
    findings.merge(composite::judge(place, value, validation));
    match value {
        Value::String(text) => {
            findings.merge(judge_text(place, value, text, validation));
            findings.merge(format::judge(place, text, schema));
        }
        Value::Number(_) => findings.merge(number::judge(place, value, schema)),
        Value::Array(items) => findings.merge(judge_array(place, items, schema)),
        Value::Object(map) => findings.merge(judge_object(place, map, schema)),
        _ => {}
    }
    findings.merge(judge_enum(place, value, validation));
    findings.checks += 5;
    findings
}

/// The type as the schema would call it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn judge_type(place: Place<'_>, value: &Value, schema: &Structural) -> Findings {
    let mut findings = Findings {
        checks: 1,
        ..Findings::default()
    };
    let expected: &[StructuralType] = match (schema.int_or_string, &schema.value_type) {
        (true, _) => &[StructuralType::Integer, StructuralType::String],
        (false, Some(one)) => std::slice::from_ref(one),
        (false, None) => &[],
    };
    let found = type_name(value);
    let fits = match value {
        Value::Null => schema.nullable,
        _ => expected.iter().any(|expected| match expected {
            StructuralType::Number => matches!(found, "number" | "integer"),
            StructuralType::Integer => {
                found == "integer" || value.as_f64().is_some_and(number::is_integer)
            }
            other => other.as_str() == found,
        }),
    };
    if expected.is_empty() || fits {
        return findings;
    }
    let is_numeric =
        |one: &StructuralType| matches!(one, StructuralType::Integer | StructuralType::Number);
    let error = match (format::effective(schema), value) {
        (None, _) | (_, Value::Null) => place.wrong_type(&type_names(expected), found),
        // Of a text or list under a format, upstream judges the format alone.
        (Some(_), Value::String(_) | Value::Array(_)) if !expected.iter().any(is_numeric) => {
            return findings;
        }
        (Some(_), Value::String(_) | Value::Array(_)) => {
            place.wrong_type(&type_names(expected), found)
        }
        (Some(format), Value::Number(number)) => {
            place.wrong_type(format, if number.is_f64() { "float64" } else { "int64" })
        }
        (Some(format), _) => place.wrong_type(format, ""),
    };
    findings.errors.push(error);
    findings
}

fn type_names(types: &[StructuralType]) -> String {
    let names: Vec<&str> = types.iter().map(|one| one.as_str()).collect();
    names.join(",")
}

fn judge_enum(place: Place<'_>, value: &Value, validation: &Validation) -> Findings {
    let values = &validation.enum_values;
    if values.is_empty() || values.iter().any(|legal| equal(legal, value)) {
        return Findings::default();
    }
    let texts: Vec<String> = values
        .iter()
        .map(|legal| {
            legal
                .as_str()
                .map_or_else(|| legal.to_string(), str::to_owned)
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let error = FieldError::not_supported(&place.field_path(), value.clone(), &texts);
    Findings::of(Some(error))
}

/// Whether a value is the legal one; a number is first turned into the legal one's kind, as Go converts it.
#[allow(clippy::float_cmp, clippy::cast_possible_truncation)] // Both came from literals; Go truncates too.
fn equal(legal: &Value, value: &Value) -> bool {
    match (legal.as_i64(), legal.as_f64(), value.as_f64()) {
        (Some(legal), _, Some(number)) if !value.is_i64() => legal == number as i64,
        (None, Some(legal), Some(number)) => legal == number,
        _ => legal == value,
    }
}

fn judge_text(place: Place<'_>, value: &Value, text: &str, validation: &Validation) -> Findings {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(max) = validation.max_length.filter(|max| length > *max) {
        return Findings::of(Some(FieldError::too_long(&place.field_path(), max)));
    }
    if let Some(min) = validation.min_length.filter(|min| length < *min) {
        return Findings::of(Some(
            place.invalid(value, format_args!("be at least {min} chars long")),
        ));
    }
    let Some(pattern) = &validation.pattern else {
        return Findings::default();
    };
    let error = match pattern.matches(text) {
        Ok(true) => None,
        Ok(false) => Some(place.invalid(value, format_args!("match '{}'", pattern.as_str()))),
        Err(why) => Some(place.invalid(
            value,
            format_args!(
                "match '{}, but pattern is invalid: {why}'",
                pattern.as_str()
            ),
        )),
    };
    Findings::of(error)
}

fn judge_array(place: Place<'_>, items: &[Value], schema: &Structural) -> Findings {
    let mut findings = Findings::default();
    let validation = schema.validation();
    if let Some(element) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", place.path);
            let old = list_types::correlated(place.old, item, index, schema);
            findings.merge(judge(Place { path: &path, old }, item, element));
        }
    }
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let whole = Value::from(count);
    if let Some(min) = validation.min_items.filter(|min| count < *min) {
        findings
            .errors
            .push(place.invalid(&whole, format_args!("have at least {min} items")));
    }
    if let Some(max) = validation.max_items.filter(|max| count > *max) {
        findings.errors.push(too_many(place, count, max));
    }
    let repeated = |(index, item): (usize, &Value)| items[..index].contains(item);
    if validation.unique_items && items.iter().enumerate().any(repeated) {
        let text = format!("{} in body shouldn't contain duplicates", place.path);
        findings
            .errors
            .push(FieldError::invalid(&place.field_path(), "", text));
    }
    findings.checks += 1;
    findings
}

fn too_many(place: Place<'_>, count: i64, max: i64) -> FieldError {
    let (count, max) = (usize::try_from(count), usize::try_from(max));
    FieldError::too_many(
        &place.field_path(),
        count.unwrap_or(usize::MAX),
        max.unwrap_or(0),
    )
}

fn judge_object(place: Place<'_>, map: &Map<String, Value>, schema: &Structural) -> Findings {
    let mut findings = Findings::default();
    let validation = schema.validation();
    let count = i64::try_from(map.len()).unwrap_or(i64::MAX);
    if let Some(min) = validation.min_properties.filter(|min| count < *min) {
        let value = Value::from(count);
        findings
            .errors
            .push(place.invalid(&value, format_args!("have at least {min} properties")));
    }
    if let Some(max) = validation.max_properties.filter(|max| count > *max) {
        findings.errors.push(too_many(place, count, max));
    }
    for (key, value) in map {
        let named = schema.properties.get(key);
        let other = match &schema.additional_properties {
            Some(AdditionalProperties::Schema(values)) => Some(&**values),
            _ => None,
        };
        let Some(child) = named.or(other) else {
            continue;
        };
        // At the top, upstream tells a named field without a dot before it, and others with one.
        let is_bare = place.path.is_empty() && named.is_some();
        let path = if is_bare {
            key.clone()
        } else {
            format!("{}.{key}", place.path)
        };
        let old = place.old.and_then(|old| old.get(key));
        findings.merge(judge(Place { path: &path, old }, value, child));
    }
    for key in validation
        .required
        .iter()
        .filter(|key| !map.contains_key(*key))
    {
        findings
            .errors
            .push(FieldError::required(&place.field_path().child(key), ""));
    }
    findings
}

#[cfg(test)]
mod tests;

//! A time that must be there but was never set is null in JSON; typed objects have no null, so it is the year one in them.

use serde_json::Value;

const ZERO: &str = "0001-01-01T00:00:00Z";
const ZERO_IN_MICROSECONDS: &str = "0001-01-01T00:00:00.000000Z";
/// The same, in seconds since 1970.
const ZERO_SECONDS: i64 = -62_135_596_800;

/// Whether somebody has set the time, told in seconds since 1970.
pub fn is_set(seconds: i64) -> bool {
    seconds != ZERO_SECONDS
}

/// Every null that stands for a time becomes the time that Kubernetes takes it for.
pub fn spell_out(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if field.is_null() && name.ends_with("Time") {
                    *field = ZERO.into();
                } else {
                    spell_out(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(spell_out),
        _ => {}
    }
}

/// Whether [`spell_out`] would find one.
pub fn is_any<'a>(mut values: impl Iterator<Item = &'a Value>) -> bool {
    let is_time = |(name, field): (&String, &Value)| field.is_null() && name.ends_with("Time");
    values.any(|value| match value {
        Value::Object(fields) => fields.iter().any(is_time) || is_any(fields.values()),
        Value::Array(items) => is_any(items.iter()),
        _ => false,
    })
}

/// The other way round.
pub fn fold(value: &mut Value) {
    match value {
        Value::String(text) if text == ZERO || text == ZERO_IN_MICROSECONDS => *value = Value::Null,
        Value::Object(fields) => fields.values_mut().for_each(fold),
        Value::Array(items) => items.iter_mut().for_each(fold),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{fold, is_any, spell_out};

    #[test]
    fn a_time_that_was_never_set_survives_the_way_through_a_type() {
        let written =
            json!({"status": {"conditions": [{"type": "Ready", "lastTransitionTime": null}]}});
        let mut value = written.clone();
        assert!(is_any([&value].into_iter()));
        spell_out(&mut value);
        assert!(!is_any([&value].into_iter()));
        assert_eq!(
            value["status"]["conditions"][0]["lastTransitionTime"],
            "0001-01-01T00:00:00Z"
        );
        fold(&mut value);
        assert_eq!(value, written);
    }
}

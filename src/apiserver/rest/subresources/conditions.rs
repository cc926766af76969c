//! Conditions in a status: one per type, with the time of the last change.

use apimachinery::Object;
use serde_json::Value;

/// Sets a condition; its transition time moves only when its status does.
pub(crate) fn set_condition(object: &mut Object, mut condition: Value, now: &str) {
    let kind = condition["type"].clone();
    let mut conditions = match object.at(&["status", "conditions"]) {
        Some(Value::Array(conditions)) => conditions.clone(),
        _ => Vec::new(),
    };
    let old = conditions.iter_mut().find(|old| old["type"] == kind);
    let same = old
        .as_ref()
        .filter(|old| old["status"] == condition["status"]);
    let since = same.and_then(|old| old["lastTransitionTime"].as_str());
    condition["lastTransitionTime"] = since.unwrap_or(now).into();
    match old {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
    object.set_at(&["status", "conditions"], conditions.into());
}

//! `/approval` of a certificate signing request: its conditions and nothing else.

use apimachinery::{ApiError, FieldError, FieldErrors, FieldPath, Object};
use serde_json::Value;

use crate::answer::Answer;
use crate::call::Call;
use crate::modify::{Part, modify};
use crate::request_info::Verb;
use crate::verbs::patch::patched;
use crate::{decode, metadata, verbs};

pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    if call.path.verb() == Verb::Get {
        return verbs::get(call).await;
    }
    let options = call.write_options()?;
    let told = match call.path.verb() {
        Verb::Update => Some(decode::object(call, options.field_validation)?),
        _ => None,
    };
    let now = call.state.now().to_seconds_string();
    let outcome = modify(call, &call.key(), Part::Special, &options, |old| {
        let mut new = match &told {
            Some(told) => told.clone(),
            None => patched(call, old, &options)?,
        };
        metadata::match_name(&mut new, old.name())?;
        let errors = errors(&new, old);
        if !errors.is_empty() {
            return Err(ApiError::invalid(&call.group_kind(), old.name(), &errors));
        }
        Ok(judged(new, old, &now))
    })
    .await?;
    Ok(outcome.answer(call, 200))
}

/// A verdict stands: it can be neither taken back nor contradicted.
fn errors(new: &Object, old: &Object) -> FieldErrors {
    let path = FieldPath::new("status").child("conditions");
    let has = |object: &Object, kind: &str| {
        let conditions = object
            .at(&["status", "conditions"])
            .and_then(Value::as_array);
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == kind)
    };
    let mut errors = FieldErrors::none();
    for kind in ["Approved", "Denied", "Failed"] {
        if has(old, kind) && !has(new, kind) {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&path, why));
        }
    }
    if has(new, "Approved") && has(new, "Denied") {
        errors.push(FieldError::invalid(
            &path,
            "Denied",
            "Approved and Denied conditions are mutually exclusive",
        ));
    }
    errors
}

fn judged(mut new: Object, old: &Object, now: &str) -> Object {
    let old_conditions = old
        .at(&["status", "conditions"])
        .cloned()
        .unwrap_or_default();
    let mut conditions = new
        .at(&["status", "conditions"])
        .cloned()
        .unwrap_or_default();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        complete(condition, &old_conditions, now);
    }
    for field in ["spec", "status"] {
        match old.0.get(field) {
            Some(value) => new.0.insert(field.to_owned(), value.clone()),
            None => new.0.remove(field),
        };
    }
    if !conditions.is_null() {
        new.set_at(&["status", "conditions"], conditions);
    }
    new
}

/// Fills in the times that the client left out.
fn complete(condition: &mut Value, old: &Value, now: &str) {
    let is_missing = |value: &Value| value.as_str().is_none_or(str::is_empty);
    if is_missing(&condition["lastUpdateTime"]) {
        condition["lastUpdateTime"] = now.into();
    }
    if is_missing(&condition["lastTransitionTime"]) {
        let same = old.as_array().into_iter().flatten().find(|old| {
            old["type"] == condition["type"]
                && old["status"] == condition["status"]
                && !is_missing(&old["lastTransitionTime"])
        });
        condition["lastTransitionTime"] =
            same.map_or_else(|| now.into(), |old| old["lastTransitionTime"].clone());
    }
}

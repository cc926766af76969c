//! JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386). Strategic merge needs a schema and lives with it.

use serde_json::Value;

use crate::ApiError;

/// More operations in one JSON patch are refused, as upstream refuses them.
pub const PATCH_OPERATIONS_MAX: usize = 10_000;
/// A patch may not let a document grow beyond this; `copy` could otherwise double it with every operation.
const PATCHED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Applies a JSON patch; a failing operation leaves nothing to use.
pub fn json_patch(document: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let listed: Value = serde_json::from_slice(patch)
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    let sort = match &listed {
        Value::Array(_) => "",
        Value::Object(_) => "object",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    };
    if !sort.is_empty() {
        return Err(ApiError::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {sort} into Go value of type []handlers.jsonPatchOp"
        )));
    }
    let operations: Vec<json_patch::PatchOperation> =
        serde_json::from_value(listed).map_err(|_odd| rejected())?;
    if operations.len() > PATCH_OPERATIONS_MAX {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {PATCH_OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut patched = document.clone();
    for operation in &operations {
        apply_one(&mut patched, operation)?;
    }
    Ok(patched)
}

fn apply_one(document: &mut Value, operation: &json_patch::PatchOperation) -> Result<(), ApiError> {
    json_patch::patch(document, std::slice::from_ref(operation)).map_err(|_failed| rejected())?;
    if matches!(operation, json_patch::PatchOperation::Copy(_))
        && size_of_tree(document) > PATCHED_BYTES_MAX
    {
        return Err(ApiError::too_large("the patched object would be too large"));
    }
    Ok(())
}

/// Upstream tells nobody which operation failed, or why.
fn rejected() -> ApiError {
    ApiError::new(
        422,
        crate::Reason::Invalid,
        "the server rejected our request due to an error in our request",
    )
    .with_details(crate::StatusDetails::default())
}

fn size_of_tree(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(size_of_tree).sum::<usize>() + 2,
        Value::Object(map) => {
            map.iter()
                .map(|(key, value)| key.len() + size_of_tree(value))
                .sum::<usize>()
                + 2
        }
        Value::String(text) => text.len() + 2,
        _ => 8,
    }
}

/// Applies a merge patch: null deletes, objects merge, everything else replaces.
pub fn merge_patch(document: &mut Value, patch: &Value) {
    json_patch::merge(document, patch);
}

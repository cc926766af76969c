//! A change told as a patch.

use apimachinery::{ApiError, GroupVersionKind, Object, json_patch, merge_patch};
use schema::Node;
use serde_json::Value;

use crate::answer::Answer;
use crate::call::{Call, WriteOptions};
use crate::decode::{finish, media_type};
use crate::modify::{Part, modify};
use crate::metadata;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

pub(crate) async fn patch(call: &Call<'_>) -> Result<Answer, ApiError> {
    patch_part(call, Part::Main).await
}

pub(crate) async fn patch_part(call: &Call<'_>, part: Part) -> Result<Answer, ApiError> {
    let options = call.write_options()?;
    if media_type(call.header("content-type")) == APPLY {
        return crate::apply::apply(call, part, &options).await;
    }
    let key = call.key();
    let outcome = modify(call, &key, part, &options, |old| patched(call, old, &options)).await?;
    Ok(outcome.answer(call, 200))
}

/// The object of the call's own kind after the patch.
pub(crate) fn patched(call: &Call<'_>, old: &Object, options: &WriteOptions) -> Result<Object, ApiError> {
    let kind = &call.served.description.kind;
    let node = call.served.resource.schema();
    let mut object = patched_as(call, Value::Object(old.0.clone()), kind, node, options)?;
    metadata::match_name(&mut object, old.name())?;
    Ok(object)
}

/// A tree of any kind after the patch, checked as if it had come from a client.
pub(crate) fn patched_as(
    call: &Call<'_>,
    tree: Value,
    kind: &GroupVersionKind,
    node: Node<'_>,
    options: &WriteOptions,
) -> Result<Object, ApiError> {
    let tree = match media_type(call.header("content-type")) {
        JSON => json_patch(&tree, &call.body)?,
        MERGE => {
            let patch = read(&call.body)?;
            let mut tree = tree;
            merge_patch(&mut tree, &patch);
            tree
        }
        STRATEGIC => strategic(call, tree, node)?,
        _ => return Err(unsupported()),
    };
    decoded(call, &tree, kind, node, options)
}

fn strategic(call: &Call<'_>, mut tree: Value, node: Node<'_>) -> Result<Value, ApiError> {
    if !node.is_built_in() {
        return Err(unsupported());
    }
    let patch = read(&call.body)?;
    let (Value::Object(original), Value::Object(patch)) = (&mut tree, &patch) else {
        return Err(ApiError::bad_request("the patch is no object"));
    };
    schema::strategic_merge(original, patch, node)?;
    Ok(tree)
}

fn read(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
}

fn unsupported() -> ApiError {
    ApiError::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: {JSON}, {MERGE}, {STRATEGIC}, {APPLY}"
    ))
}

fn decoded(
    call: &Call<'_>,
    tree: &Value,
    kind: &GroupVersionKind,
    node: Node<'_>,
    options: &WriteOptions,
) -> Result<Object, ApiError> {
    let decoded = schema::decode_check(tree, node).map_err(|error| ApiError::bad_request(error.to_string()))?;
    finish(call, kind, decoded, options.field_validation)
}

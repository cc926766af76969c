//! A change told as a patch.

use apimachinery::{
    ApiError, FieldError, FieldErrors, FieldPath, GroupKind, GroupVersionKind, Object, Reason,
    json_patch, merge_patch,
};
use schema::Node;
use serde_json::Value;

use crate::answer::Answer;
use crate::call::{Call, WriteOptions};
use crate::catalog::Origin;
use crate::decode::{finish, media_type, report};
use crate::metadata;
use crate::modify::{Part, modify};

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
    if call.query.flag("force") {
        let mut errors = FieldErrors::none();
        errors.push(FieldError::forbidden(
            &FieldPath::new("force"),
            "may not be specified for non-apply patch",
        ));
        return Err(ApiError::invalid(
            &GroupKind::new("meta.k8s.io", "PatchOptions"),
            "",
            &errors,
        ));
    }
    let key = call.key();
    let outcome = modify(call, &key, part, &options, |old| {
        patched(call, old, &options)
    })
    .await?;
    Ok(outcome.answer(call, 200))
}

/// The object of the call's own kind after the patch.
pub(crate) fn patched(
    call: &Call<'_>,
    old: &Object,
    options: &WriteOptions,
) -> Result<Object, ApiError> {
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
    let content_type = media_type(call.header("content-type"));
    let before = tree.clone();
    if matches!(content_type, JSON | MERGE | STRATEGIC) {
        // The words of Go's scanner, which clients see.
        schema::Document::parse(&call.body)
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    }
    let tree = match content_type {
        JSON => json_patch(&tree, &call.body)?,
        MERGE => {
            let patch = read(&call.body)?;
            let mut tree = tree;
            merge_patch(&mut tree, &patch);
            tree
        }
        STRATEGIC => strategic(call, tree, node)?,
        _ => return Err(unsupported(call)),
    };
    let told = if content_type == STRATEGIC {
        go_text(&read(&call.body)?)
    } else {
        // Whoever patches in Go leaves untouched parts as the struct wrote them, and sorts the others.
        let mut text = String::new();
        go_json(&tree, Some(&before), Some(node), &mut text);
        text
    };
    decoded(call, &tree, kind, node, options, &told)
}

fn go_json(value: &Value, before: Option<&Value>, node: Option<Node<'_>>, out: &mut String) {
    match value {
        Value::Object(map) => {
            let is_untouched = before == Some(value);
            let declared = node.filter(|_| is_untouched).and_then(Node::type_ref);
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            if let Some(declared) = declared {
                let order: Vec<&str> = declared.fields().map(schema::FieldRef::json_name).collect();
                keys.sort_by_key(|key| {
                    order
                        .iter()
                        .position(|name| name == key)
                        .unwrap_or(order.len())
                });
            }
            out.push('{');
            for (at, key) in keys.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                let below = node.and_then(|node| node.child(key));
                go_json(
                    &map[key],
                    before.and_then(|before| before.get(key)),
                    below,
                    out,
                );
            }
            out.push('}');
        }
        Value::Array(items) => {
            let below = node.and_then(Node::element);
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                go_json(item, before.and_then(|before| before.get(at)), below, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// A value as Go prints it.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(go_text).collect::<Vec<_>>().join(" ")
        ),
        Value::Object(map) => {
            let members: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", go_text(value)))
                .collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

fn strategic(call: &Call<'_>, mut tree: Value, node: Node<'_>) -> Result<Value, ApiError> {
    if !node.is_built_in() {
        return Err(unsupported(call));
    }
    let patch = read(&call.body)?;
    let (Value::Object(original), Value::Object(patch)) = (&mut tree, &patch) else {
        return Err(ApiError::bad_request("the patch is no object"));
    };
    schema::strategic_merge(original, patch, node).map_err(|error| {
        // Upstream makes no status of this one.
        let is_bare = error
            .message
            .contains("does not contain declared merge key");
        if is_bare {
            ApiError::new(500, Reason::Unknown, error.message)
        } else {
            error
        }
    })?;
    Ok(tree)
}

fn read(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
}

fn unsupported(call: &Call<'_>) -> ApiError {
    if call.served.origin == Origin::Custom {
        return ApiError::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: {JSON}, {MERGE}, {APPLY}"
        ));
    }
    ApiError::unsupported_media_type("415: Unsupported Media Type")
        .with_details(apimachinery::StatusDetails::default())
}

fn decoded(
    call: &Call<'_>,
    tree: &Value,
    kind: &GroupVersionKind,
    node: Node<'_>,
    options: &WriteOptions,
    told: &str,
) -> Result<Object, ApiError> {
    // What is wrong is told about the patch as a whole.
    let refused = |why: String| {
        let mut errors = FieldErrors::none();
        errors.push(FieldError::invalid(&FieldPath::new("patch"), told, why));
        ApiError::invalid(&GroupKind::new("", ""), "", &errors)
    };
    let is_strategic = media_type(call.header("content-type")) == STRATEGIC;
    let mut decoded = schema::decode_check(tree, node).map_err(|error| {
        let why = error.to_string();
        // Strategic patches are not decoded from text, so a wrong type gets other words.
        let wanted = why.rsplit_once(" of type ").filter(|_| is_strategic);
        refused(wanted.map_or_else(
            || why.clone(),
            |(_, wanted)| format!("unrecognized type: {wanted}"),
        ))
    })?;
    if let Node::CustomResource(schema) = node {
        let unknown = schema::prune(&mut decoded.tree, schema);
        decoded.strict_errors.extend(
            unknown
                .into_iter()
                .map(|path| format!("unknown field {path:?}")),
        );
    }
    report(call, &decoded.strict_errors, options.field_validation).map_err(refused)?;
    decoded.strict_errors.clear();
    finish(call, kind, decoded, options.field_validation)
}

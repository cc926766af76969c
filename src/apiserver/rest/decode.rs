//! From the body of a write to a tree that its kind's type allows, or upstream's words for why not.

use apimachinery::{ApiError, GroupVersion, GroupVersionKind, Object};
use schema::{Decoded, Document, decode_document};
use serde_json::Value;

use crate::call::{Call, FieldValidation};

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// Where upstream keeps its list of kinds; its error texts name the place.
const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";

/// Reads an object of the kind that the call is about.
pub(crate) fn object(call: &Call<'_>, validation: FieldValidation) -> Result<Object, ApiError> {
    let kind = &call.served.description.kind;
    decode(call, kind, call.served.resource.schema(), validation)
}

/// Reads an object of another kind, as subresources take them.
pub(crate) fn object_of(
    call: &Call<'_>,
    kind: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<Object, ApiError> {
    let type_ref = schema::built_in(&kind.group, &kind.version, &kind.kind)
        .ok_or_else(|| ApiError::internal(format!("nothing is known about {kind}")))?;
    decode(call, kind, schema::Node::Type(type_ref), validation)
}

/// The media type without its parameters; JSON where none is told.
pub(crate) fn media_type(content_type: &str) -> &str {
    let bare = content_type.split(';').next().unwrap_or_default().trim();
    if bare.is_empty() { "application/json" } else { bare }
}

fn decode(
    call: &Call<'_>,
    kind: &GroupVersionKind,
    node: schema::Node<'_>,
    validation: FieldValidation,
) -> Result<Object, ApiError> {
    match media_type(call.header("content-type")) {
        "application/json" => json(call, kind, node, validation),
        _ => Err(ApiError::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: {ACCEPTED}"
        ))),
    }
}

fn json(
    call: &Call<'_>,
    kind: &GroupVersionKind,
    node: schema::Node<'_>,
    validation: FieldValidation,
) -> Result<Object, ApiError> {
    let document = Document::parse(&call.body).map_err(|error| {
        let why = format!("couldn't get version/kind; json parse error: {error}");
        unrecognized(kind, &why, &call.body)
    })?;
    let told = told_kind(&document, kind);
    check_kind(&told, kind)?;
    let decoded = decode_document(document, node).map_err(|error| {
        ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {error}",
            told.kind, told.version, kind.kind
        ))
    })?;
    finish(call, kind, decoded, validation)
}

/// What the body says it is; where it says nothing, it is what is expected.
fn told_kind(document: &Document<'_>, expected: &GroupVersionKind) -> GroupVersionKind {
    let text = |field: &str| document.get(field).and_then(Document::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let version =
        if api_version.is_empty() { expected.group_version() } else { GroupVersion::parse(api_version) };
    version.kind(if kind.is_empty() { expected.kind.clone() } else { kind.to_owned().into() })
}

fn check_kind(told: &GroupVersionKind, expected: &GroupVersionKind) -> Result<(), ApiError> {
    if told == expected {
        return Ok(());
    }
    if told.kind == expected.kind && schema::built_in(&told.group, &told.version, &told.kind).is_some() {
        return Err(wrong_version(&told.group_version(), &expected.group_version()));
    }
    let why = if schema::built_in(&told.group, &told.version, &told.kind).is_some() {
        let package = if expected.group.is_empty() { "core" } else { expected.group.split('.').next().unwrap_or_default() };
        format!("converting ({}.{}) to ({package}.{}): unknown conversion", told.version, told.kind, expected.kind)
    } else {
        format!(
            "no kind {:?} is registered for version {:?} in scheme {SCHEME:?}",
            told.kind,
            told.group_version().to_string()
        )
    };
    Err(ApiError::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        told.kind, told.version, expected.kind
    )))
}

pub(crate) fn wrong_version(told: &GroupVersion, expected: &GroupVersion) -> ApiError {
    ApiError::bad_request(format!(
        "the API version in the data ({told}) does not match the expected API version ({expected})"
    ))
}

fn unrecognized(kind: &GroupVersionKind, why: &str, body: &[u8]) -> ApiError {
    let summary = if body.is_empty() {
        "<empty>".to_owned()
    } else {
        let cut = &body[..body.len().min(30)];
        let dots = if body.len() > 30 { " ..." } else { "" };
        format!("{:?}{dots}", String::from_utf8_lossy(cut))
    };
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({summary})",
        kind.kind
    ))
}

/// Tells or refuses what a strict reader objects to, and completes the type.
fn finish(
    call: &Call<'_>,
    kind: &GroupVersionKind,
    decoded: Decoded,
    validation: FieldValidation,
) -> Result<Object, ApiError> {
    report(call, &decoded.strict_errors, validation)?;
    let Value::Object(tree) = decoded.tree else {
        return Err(ApiError::bad_request(format!("the object provided is no {}", kind.kind)));
    };
    let mut object = Object(tree);
    object.set_group_version_kind(kind);
    Ok(object)
}

/// What a strict reader objects to is refused, told, or passed over.
pub(crate) fn report(call: &Call<'_>, strict_errors: &[String], validation: FieldValidation) -> Result<(), ApiError> {
    match validation {
        FieldValidation::Strict if !strict_errors.is_empty() => {
            Err(ApiError::bad_request(schema::strict_decoding_error(strict_errors)))
        }
        FieldValidation::Warn => {
            strict_errors.iter().for_each(|error| call.warnings.add(error.clone()));
            Ok(())
        }
        FieldValidation::Ignore | FieldValidation::Strict => Ok(()),
    }
}

/// Reads the options of a delete; they may come in any group version.
pub(crate) fn delete_options(call: &Call<'_>) -> Result<Object, ApiError> {
    let kind = GroupVersionKind::new("", "v1", "DeleteOptions");
    let node = schema::built_in("", "v1", "DeleteOptions")
        .ok_or_else(|| ApiError::internal("nothing is known about DeleteOptions"))?;
    let document = Document::parse(&call.body).map_err(|error| {
        unrecognized(&kind, &format!("couldn't get version/kind; json parse error: {error}"), &call.body)
    })?;
    let told = told_kind(&document, &kind);
    if told.kind != kind.kind {
        let why = format!("expected kind {:?}, got {:?}", kind.kind, told.kind);
        return Err(ApiError::bad_request(why));
    }
    let decoded = decode_document(document, schema::Node::Type(node)).map_err(|error| {
        ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {error}",
            told.kind, told.version, kind.kind
        ))
    })?;
    Object::from_value(decoded.tree).ok_or_else(|| ApiError::bad_request("the options are no object"))
}

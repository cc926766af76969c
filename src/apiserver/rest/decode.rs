//! From the body of a write to a tree that its kind's type allows, or upstream's words for why not.

use apimachinery::{
    ApiError, FieldError, FieldErrors, FieldPath, GroupVersion, GroupVersionKind,
    GroupVersionKind as Kind, Object,
};
use codec::{BUILT_IN_ENCODINGS, Body, BodyError, CUSTOM_ENCODINGS};
use schema::Decoded;
use serde_json::Value;

use crate::call::{Call, FieldValidation};
use crate::catalog::Origin;

/// Where upstream keeps its list of kinds; its error texts name the place.
const SCHEME: &str = "pkg/runtime/scheme.go:111";
/// Versions that upstream's list of kinds still has though no server answers to them.
const OLD_VERSIONS: &[(&str, &str)] = &[
    ("apps", "v1beta1"),
    ("apps", "v1beta2"),
    ("autoscaling", "v2beta1"),
    ("autoscaling", "v2beta2"),
    ("batch", "v1beta1"),
    ("policy", "v1beta1"),
    ("networking.k8s.io", "v1beta1"),
    ("rbac.authorization.k8s.io", "v1beta1"),
    ("storage.k8s.io", "v1beta1"),
    ("scheduling.k8s.io", "v1beta1"),
    ("coordination.k8s.io", "v1beta1"),
    ("events.k8s.io", "v1beta1"),
    ("discovery.k8s.io", "v1beta1"),
    ("node.k8s.io", "v1beta1"),
];

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
    if bare.is_empty() {
        "application/json"
    } else {
        bare
    }
}

fn decode(
    call: &Call<'_>,
    kind: &GroupVersionKind,
    node: schema::Node<'_>,
    validation: FieldValidation,
) -> Result<Object, ApiError> {
    let body = read(call)?.map_err(|error| error.to_api_error(&kind.version, &kind.kind))?;
    let told = told_kind(&body, kind);
    if call.served.origin == Origin::Custom && *kind == call.served.description.kind {
        check_custom_kind(call, &body, &told, kind)?;
    } else {
        check_kind(&told, kind)?;
    }
    let decoded = body
        .decode(node)
        .map_err(|error| error.to_api_error(&told.version, &kind.kind))?;
    finish(call, kind, decoded, validation)
}

/// The outside of the body, in one of the encodings that the kind speaks.
fn read<'c>(call: &'c Call<'_>) -> Result<Result<Body<'c>, BodyError>, ApiError> {
    let encodings = if call.served.origin == Origin::Custom {
        CUSTOM_ENCODINGS
    } else {
        BUILT_IN_ENCODINGS
    };
    let encoding = codec::body_encoding(call.header("content-type"), encodings)?;
    Ok(Body::read(encoding, &call.body))
}

/// What the body says it is; where it says nothing, it is what is expected.
fn told_kind(body: &Body<'_>, expected: &GroupVersionKind) -> GroupVersionKind {
    let (api_version, kind) = (body.api_version(), body.kind());
    let version = if api_version.is_empty() {
        expected.group_version()
    } else {
        GroupVersion::parse(api_version)
    };
    version.kind(if kind.is_empty() {
        expected.kind.clone()
    } else {
        kind.to_owned().into()
    })
}

/// As much of a body as an error quotes, in bytes.
const QUOTED_BYTES_MAX: usize = 30;

/// Custom objects must say what they are; a wrong kind is a mistake in the object.
fn check_custom_kind(
    call: &Call<'_>,
    body: &Body<'_>,
    told: &GroupVersionKind,
    expected: &GroupVersionKind,
) -> Result<(), ApiError> {
    if body.kind().is_empty() {
        let text = String::from_utf8_lossy(&call.body);
        let mut end = text.len().min(QUOTED_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let dots = if end < text.len() { "..." } else { "" };
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing in '{text}' ({}{dots})",
            expected.kind,
            &text[..end]
        )));
    }
    if told.group_version() != expected.group_version() {
        return Err(wrong_version(
            &told.group_version(),
            &expected.group_version(),
        ));
    }
    if told.kind == expected.kind {
        return Ok(());
    }
    let mut errors = FieldErrors::none();
    let why = format!("must be {}", expected.kind);
    errors.push(FieldError::invalid(
        &FieldPath::new("kind"),
        told.kind.as_ref(),
        why,
    ));
    let name = codec::parse_yaml(&call.body)
        .ok()
        .and_then(|yaml| yaml.document.into_value());
    let name = name
        .as_ref()
        .and_then(|object| object["metadata"]["name"].as_str())
        .unwrap_or_default();
    Err(ApiError::invalid(&told.group_kind(), name, &errors))
}

fn check_kind(told: &GroupVersionKind, expected: &GroupVersionKind) -> Result<(), ApiError> {
    if told == expected {
        return Ok(());
    }
    let is_old =
        OLD_VERSIONS.contains(&(&told.group, &told.version)) && told.group == expected.group;
    if told.kind == expected.kind
        && (is_old || schema::built_in(&told.group, &told.version, &told.kind).is_some())
    {
        return Err(wrong_version(
            &told.group_version(),
            &expected.group_version(),
        ));
    }
    let why = if schema::built_in(&told.group, &told.version, &told.kind).is_some() {
        let package = if expected.group.is_empty() {
            "core"
        } else {
            expected.group.split('.').next().unwrap_or_default()
        };
        format!(
            "converting ({}.{}) to ({package}.{}): unknown conversion",
            told.version, told.kind, expected.kind
        )
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

/// Tells or refuses what a strict reader objects to, and completes the type.
pub(crate) fn finish(
    call: &Call<'_>,
    kind: &GroupVersionKind,
    mut decoded: Decoded,
    validation: FieldValidation,
) -> Result<Object, ApiError> {
    if let schema::Node::CustomResource(schema) = call.served.resource.schema()
        && *kind == call.served.description.kind
    {
        // What a custom resource's schema does not name is told with what was repeated.
        let unknown = schema::prune(&mut decoded.tree, schema);
        decoded.strict_errors.extend(
            unknown
                .into_iter()
                .map(|path| format!("unknown field {path:?}")),
        );
    }
    report(call, &decoded.strict_errors, validation).map_err(|why| {
        let Kind { version, kind, .. } = kind;
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    })?;
    let tree = match decoded.tree {
        Value::Object(tree) => tree,
        // Go reads nothing as an object with nothing in it.
        Value::Null => serde_json::Map::new(),
        _ => {
            return Err(ApiError::bad_request(format!(
                "the object provided is no {}",
                kind.kind
            )));
        }
    };
    let mut object = Object(tree);
    object.set_group_version_kind(kind);
    Ok(object)
}

/// What a strict reader objects to is refused, told, or passed over.
pub(crate) fn report(
    call: &Call<'_>,
    strict_errors: &[String],
    validation: FieldValidation,
) -> Result<(), String> {
    match validation {
        FieldValidation::Strict if !strict_errors.is_empty() => {
            Err(schema::strict_decoding_error(strict_errors))
        }
        FieldValidation::Warn => {
            for error in strict_errors {
                // Errors of YAML come as one text with a line for each.
                let lines = error
                    .strip_prefix("yaml: unmarshal errors:\n")
                    .unwrap_or(error);
                lines
                    .lines()
                    .for_each(|line| call.warnings.add(line.trim_start()));
            }
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
    // Options are decoded without the words that objects get around their errors.
    let bare = |error: BodyError| ApiError::bad_request(error.to_string());
    let body = read(call)?.map_err(bare)?;
    let told = told_kind(&body, &kind);
    if told.kind != kind.kind {
        return Err(ApiError::bad_request(format!(
            "no kind {:?} is registered for version {:?} in scheme {SCHEME:?}",
            told.kind,
            told.group_version().to_string()
        )));
    }
    let decoded = body.decode(schema::Node::Type(node)).map_err(bare)?;
    Object::from_value(decoded.tree)
        .ok_or_else(|| ApiError::bad_request("the options are no object"))
}

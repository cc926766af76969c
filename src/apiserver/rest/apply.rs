//! Server-side apply: a configuration merges into what is there, and its fields get an owner.

use apimachinery::{
    ApiError, FieldError, FieldErrors, FieldPath, GroupKind, GroupVersion, GroupVersionKind,
    Object, Reason,
};
use codec::{Body, Encoding};
use field_manager::{Applied, Force};
use schema::Decoded;

use crate::answer::Answer;
use crate::call::{Call, FieldValidation, Ownership, WriteOptions};
use crate::modify::{Part, modify};
use crate::verbs::create::create_applied;
use crate::{decode, managed_fields, metadata};

pub(crate) async fn apply(
    call: &Call<'_>,
    part: Part,
    options: &WriteOptions,
) -> Result<Answer, ApiError> {
    check_options(call)?;
    let options = &WriteOptions {
        ownership: Ownership::Applied,
        ..options.clone()
    };
    let mut configuration = read(call, options)?;
    let key = call.key();
    metadata::match_name(&mut configuration, &key.name)?;
    metadata::match_namespace(&mut configuration, &key.namespace)?;
    let force = if call.query.flag("force") {
        Force::Yes
    } else {
        Force::No
    };
    let outcome = modify(call, &key, part, options, |old| {
        merged(call, old, &configuration, force, options)
    })
    .await;
    match outcome {
        Err(error) if error.is_not_found() && part == Part::Main => {
            let object = fresh(call, &configuration, force, options)?;
            match create_applied(call, object, options).await {
                // Somebody created it meanwhile: then it is there to be changed.
                Err(error) if error.is_already_exists() => {
                    let outcome = modify(call, &key, part, options, |old| {
                        merged(call, old, &configuration, force, options)
                    })
                    .await?;
                    Ok(outcome.answer(call, 200))
                }
                outcome => Ok(outcome?.answer(call, 201)),
            }
        }
        outcome => Ok(outcome?.answer(call, 200)),
    }
}

fn check_options(call: &Call<'_>) -> Result<(), ApiError> {
    if call.query.text("fieldManager").is_some() {
        return Ok(());
    }
    let mut errors = FieldErrors::none();
    errors.push(FieldError::required(
        &FieldPath::new("fieldManager"),
        "is required for apply patch",
    ));
    Err(ApiError::invalid(
        &GroupKind::new("meta.k8s.io", "PatchOptions"),
        "",
        &errors,
    ))
}

/// The applied configuration: only what the client wrote, checked against the kind's type, without defaults.
fn read(call: &Call<'_>, options: &WriteOptions) -> Result<Object, ApiError> {
    let kind = &call.served.description.kind;
    let body = Body::read(Encoding::Yaml, &call.body).map_err(|error| {
        ApiError::bad_request(format!(
            "error decoding YAML: error converting YAML to JSON: {error}"
        ))
    })?;
    let told = (body.api_version().to_owned(), body.kind().to_owned());
    if told.0.is_empty() || told.1.is_empty() {
        let told = GroupVersion::parse(&told.0).kind(told.1);
        return Err(ApiError::bad_request(format!(
            "invalid object type: {told}"
        )));
    }
    if told.0 != kind.api_version() || told.1 != kind.kind {
        return Err(ApiError::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {}, expected: {}",
            told.0,
            kind.api_version()
        )));
    }
    let mut decoded = body
        .decode(call.served.resource.schema())
        .map_err(|error| untyped(call, &told_name(call), &error.to_string()))?;
    if let schema::Node::CustomResource(schema) = call.served.resource.schema() {
        let unknown = schema::prune(&mut decoded.tree, schema);
        decoded.strict_errors.extend(
            unknown
                .into_iter()
                .map(|path| format!("unknown field {path:?}")),
        );
    }
    // What is unknown stops the typed merge, which comes before what only a strict reader minds.
    undeclared(kind, &decoded)?;
    if options.field_validation == FieldValidation::Strict && !decoded.strict_errors.is_empty() {
        return Err(ApiError::bad_request(format!(
            "error strict decoding YAML: {}",
            decoded.strict_errors.join(", ")
        )));
    }
    decode::finish(call, kind, decoded, options.field_validation)
}

fn told_name(call: &Call<'_>) -> String {
    // A configuration's namespace may be left out; what is named is what it says.
    let body = codec::parse_yaml(&call.body)
        .ok()
        .and_then(|yaml| yaml.document.into_value())
        .unwrap_or_default();
    let at = |field: &str| body["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", at("namespace"), at("name"))
}

/// The words of the typed merge for a value of the wrong type, made from those of the decoder.
fn untyped(call: &Call<'_>, name: &str, error: &str) -> ApiError {
    let told = error
        .strip_prefix("json: cannot unmarshal ")
        .and_then(|rest| {
            let (got, rest) = rest.split_once(" into Go struct field ")?;
            let (field, wanted) = rest.rsplit_once(" of type ")?;
            let (_, path) = field.split_once('.')?;
            let wanted = match wanted {
                "int" | "int32" | "int64" | "float64" => {
                    format!("expected numeric (int or float), got {got}")
                }
                "bool" => format!("expected boolean, got {got}"),
                "string" => format!("expected string, got {got}"),
                list if list.starts_with("[]") => format!("expected list, got {got}"),
                _ => format!("expected map, got {got}"),
            };
            Some(format!(".{path}: {wanted}"))
        });
    let Some(told) = told else {
        return ApiError::bad_request(error);
    };
    let kind = &call.served.description.kind;
    let why = format!("failed to create typed patch object ({name}; {kind}): {told}");
    ApiError::new(500, Reason::Unknown, why)
}

/// A field without a schema cannot be merged, whatever the client wants of unknown fields.
fn undeclared(kind: &GroupVersionKind, decoded: &Decoded) -> Result<(), ApiError> {
    let unknown = decoded
        .strict_errors
        .iter()
        .filter_map(|error| error.strip_prefix("unknown field \"")?.strip_suffix('"'));
    let errors: Vec<String> = unknown
        .map(|path| format!(".{path}: field not declared in schema"))
        .collect();
    let text = match errors.as_slice() {
        [] => return Ok(()),
        [only] => only.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    let at = |field: &str| decoded.tree["metadata"][field].as_str().unwrap_or_default();
    let why = format!(
        "failed to create typed patch object ({}/{}; {kind}): {text}",
        at("namespace"),
        at("name")
    );
    Err(ApiError::new(500, Reason::Unknown, why))
}

fn merged(
    call: &Call<'_>,
    old: &Object,
    configuration: &Object,
    force: Force,
    options: &WriteOptions,
) -> Result<Object, ApiError> {
    if let Some(uid) = Some(configuration.uid()).filter(|uid| !uid.is_empty() && *uid != old.uid())
    {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old.uid()
        );
        return Err(ApiError::conflict(
            &call.served.description.group_resource(),
            old.name(),
            &why,
        ));
    }
    let node = call.served.resource.schema();
    let told_version = configuration.resource_version().to_owned();
    let applied = managed_fields::with_actor(call, options, |actor| {
        field_manager::apply(old, configuration, node, actor, force)
    })?;
    let mut object = match applied {
        Applied::Unchanged => old.clone(),
        Applied::Changed(object) => object,
    };
    let version = if told_version.is_empty() {
        old.resource_version().to_owned()
    } else {
        told_version
    };
    object.set_metadata_text("resourceVersion", version);
    Ok(object)
}

/// The object that applying creates.
fn fresh(
    call: &Call<'_>,
    configuration: &Object,
    force: Force,
    options: &WriteOptions,
) -> Result<Object, ApiError> {
    if !configuration.uid().is_empty() {
        return Err(ApiError::conflict(
            &call.served.description.group_resource(),
            &call.path.name,
            &format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                configuration.uid()
            ),
        ));
    }
    let mut live = registry::empty_object(&call.served.description.kind);
    live.set_metadata_text("name", configuration.name());
    live.set_metadata_text("namespace", configuration.namespace());
    let node = call.served.resource.schema();
    let applied = managed_fields::with_actor(call, options, |actor| {
        field_manager::apply(&live, configuration, node, actor, force)
    })?;
    Ok(match applied {
        Applied::Changed(object) => object,
        Applied::Unchanged => live,
    })
}

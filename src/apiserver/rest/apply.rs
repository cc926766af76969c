//! Server-side apply: a configuration merges into what is there, and its fields get an owner.

use apimachinery::{ApiError, FieldError, FieldErrors, FieldPath, GroupKind, Object};
use codec::{Body, Encoding};
use field_manager::{Applied, Force};

use crate::answer::Answer;
use crate::call::{Call, WriteOptions};
use crate::modify::{Part, modify};
use crate::verbs::create::create_applied;
use crate::{decode, managed_fields, metadata};

pub(crate) async fn apply(call: &Call<'_>, part: Part, options: &WriteOptions) -> Result<Answer, ApiError> {
    check_options(call)?;
    let mut configuration = read(call, options)?;
    let key = call.key();
    metadata::match_name(&mut configuration, &key.name)?;
    metadata::match_namespace(&mut configuration, &key.namespace)?;
    let force = if call.query.flag("force") { Force::Yes } else { Force::No };
    let outcome = modify(call, &key, part, options, |old| merged(call, old, &configuration, force, options)).await;
    match outcome {
        Err(error) if error.is_not_found() && part == Part::Main => {
            let object = fresh(call, &configuration, force, options)?;
            match create_applied(call, object, options).await {
                // Somebody created it meanwhile: then it is there to be changed.
                Err(error) if error.is_already_exists() => {
                    let outcome =
                        modify(call, &key, part, options, |old| merged(call, old, &configuration, force, options)).await?;
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
    errors.push(FieldError::required(&FieldPath::new("fieldManager"), "is required for apply patch"));
    Err(ApiError::invalid(&GroupKind::new("meta.k8s.io", "PatchOptions"), "", &errors))
}

/// The applied configuration: only what the client wrote, checked against the kind's type, without defaults.
fn read(call: &Call<'_>, options: &WriteOptions) -> Result<Object, ApiError> {
    let kind = &call.served.description.kind;
    let body = Body::read(Encoding::Yaml, &call.body)
        .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
    let told = (body.api_version().to_owned(), body.kind().to_owned());
    if told.0 != kind.api_version() || told.1 != kind.kind {
        return Err(ApiError::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {}, expected: {}",
            told.0,
            kind.api_version()
        )));
    }
    let decoded = body
        .decode(call.served.resource.schema())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    decode::finish(call, kind, decoded, options.field_validation)
}

fn merged(
    call: &Call<'_>,
    old: &Object,
    configuration: &Object,
    force: Force,
    options: &WriteOptions,
) -> Result<Object, ApiError> {
    if let Some(uid) = Some(configuration.uid()).filter(|uid| !uid.is_empty() && *uid != old.uid()) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", old.uid());
        return Err(ApiError::conflict(&call.served.description.group_resource(), old.name(), &why));
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
    let version = if told_version.is_empty() { old.resource_version().to_owned() } else { told_version };
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
            &format!("uid mismatch: the provided object specified uid {}, and no existing object was found", configuration.uid()),
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

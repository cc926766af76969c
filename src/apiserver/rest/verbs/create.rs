//! A new object: the one way into the store.

use admission::Operation;
use apimachinery::{ApiError, FieldErrors, Object, ObjectKey, Reason, StoredObject, generate_name};
use registry::{Generation, StatusOnCreate, Subresource};
use storage::{Alongside, StorageError};

use crate::admit::{self, Admission};
use crate::answer::Answer;
use crate::call::{Call, Run, WriteOptions};
use crate::catalog::{Origin, Served};
use crate::{decode, managed_fields, metadata, quota, requester, services, virtual_kinds};

/// Names tried for one `generateName` before the client is told to try again.
const GENERATED_NAMES_MAX: usize = 8;

/// Tries of one write whose claims (addresses, ports, quota) others were quicker to take.
pub(crate) const CLAIMS_TRIED_MAX: usize = 64;

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Outcome {
    Stored(StoredObject),
    /// A dry run: what would have been stored.
    Imagined(Object),
}

impl Outcome {
    pub(crate) fn answer(self, call: &Call<'_>, code: u16) -> Answer {
        let served = call.served.clone();
        match self {
            Self::Stored(object) => Answer::Object {
                code,
                served,
                object,
            },
            Self::Imagined(object) => Answer::Value {
                code,
                served: Some(served),
                value: object.into_value(),
            },
        }
    }
}

pub(crate) async fn create(call: &Call<'_>) -> Result<Answer, ApiError> {
    let options = call.write_options()?;
    let object = decode::object(call, options.field_validation)?;
    if !call.served.description.verbs.is_stored() {
        return virtual_kinds::create(call, object, &options).await;
    }
    let outcome = create_object(call, object, &options).await?;
    Ok(outcome.answer(call, 201))
}

/// Creates a decoded object; names are generated and tried again when they are taken.
pub(crate) async fn create_object(
    call: &Call<'_>,
    mut object: Object,
    options: &WriteOptions,
) -> Result<Outcome, ApiError> {
    metadata::match_namespace(&mut object, call.namespace())?;
    if !object.resource_version().is_empty() && object.resource_version() != "0" {
        return Err(ApiError::new(
            500,
            Reason::Unknown,
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let generates = object.name().is_empty() && !object.metadata_text("generateName").is_empty();
    if !generates {
        return create_named(call, object, options).await;
    }
    let mut tries = 0;
    loop {
        let mut named = object.clone();
        let name = generate_name(
            object.metadata_text("generateName"),
            call.state.rng().next_u64(),
        );
        named.set_metadata_text("name", name.clone());
        tries += 1;
        match create_named(call, named, options).await {
            Err(error) if error.is_already_exists() && tries < GENERATED_NAMES_MAX => {}
            Err(error) if error.is_already_exists() => {
                return Err(ApiError::new(
                    409,
                    Reason::AlreadyExists,
                    format!(
                        "{} {name:?} already exists, the server was not able to generate a unique name for the object",
                        call.served.description.group_resource()
                    ),
                ));
            }
            other => return other,
        }
    }
}

async fn create_named(
    call: &Call<'_>,
    mut object: Object,
    options: &WriteOptions,
) -> Result<Outcome, ApiError> {
    let served = call.served;
    served
        .resource
        .default(&mut object)
        .map_err(ApiError::internal)?;
    metadata::stamp_new(&mut object, &**call.state.rng(), call.state.now());
    managed_fields::on_create(call, &mut object, options)?;
    create_tracked(call, object, options).await
}

/// Creates an object that was made by applying a configuration: its fields have their owner already.
pub(crate) async fn create_applied(
    call: &Call<'_>,
    mut object: Object,
    options: &WriteOptions,
) -> Result<Outcome, ApiError> {
    call.served
        .resource
        .default(&mut object)
        .map_err(ApiError::internal)?;
    metadata::stamp_new(&mut object, &**call.state.rng(), call.state.now());
    create_tracked(call, object, options).await
}

async fn create_tracked(
    call: &Call<'_>,
    mut object: Object,
    options: &WriteOptions,
) -> Result<Outcome, ApiError> {
    let (name, namespace) = (object.name().to_owned(), object.namespace().to_owned());
    let admission = Admission {
        operation: Operation::Create,
        name: &name,
        namespace: &namespace,
        run: options.run,
    };
    admit::mutate(call, admission, &mut object, None).await?;
    prepare(call, &mut object);
    requester::stamp(call, &mut object);
    let mut tries = 0;
    loop {
        let mut object = object.clone();
        services::fill(call, &mut object, None, options.run).await?;
        check(call, &mut object)?;
        admit::validate(call, admission, Some(&mut object), None).await?;
        let charged = quota::charge(call, &object, None, options.run).await?;
        tries += 1;
        match store(call, object, options.run, charged).await {
            // Somebody claimed the same address, of which there are others, or charged the same quota.
            Err(StorageError::Contended) if tries < CLAIMS_TRIED_MAX => {}
            other => return other.map_err(ApiError::from),
        }
    }
}

fn check(call: &Call<'_>, object: &mut Object) -> Result<(), ApiError> {
    let mut verdict = call
        .served
        .resource
        .check_create(object)
        .map_err(ApiError::internal)?;
    let mut errors = metadata::validate(object, &call.served.description);
    errors.extend(std::mem::take(&mut verdict.errors));
    errors.extend(unbuilt(call, object));
    if !errors.is_empty() {
        return Err(ApiError::invalid(
            &call.group_kind(),
            object.name(),
            &errors,
        ));
    }
    verdict
        .warnings
        .into_iter()
        .for_each(|warning| call.warnings.add(warning));
    Ok(())
}

/// What a definition of a kind asks for in vain.
pub(crate) fn unbuilt(call: &Call<'_>, object: &Object) -> FieldErrors {
    if call.served.description.kind.kind != "CustomResourceDefinition" {
        return FieldErrors::none();
    }
    extensions::unchecked(object)
        .into_iter()
        .for_each(|warning| call.warnings.add(warning));
    extensions::unbuilt(object)
}

/// Status and generation of a new object, by the rules of its kind.
fn prepare(call: &Call<'_>, object: &mut Object) {
    let description = &call.served.description;
    if description.has(Subresource::Status)
        && description.status_on_create == StatusOnCreate::Cleared
    {
        object.0.remove("status");
    }
    match description.generation {
        // What nobody counts is kept as the client wrote it, as upstream does.
        Generation::Untracked | Generation::SpecFromNone => {}
        Generation::One | Generation::Spec | Generation::Content => object.set_generation(1),
    }
    if let schema::Node::Type(_) = call.served.resource.schema() {
        let mut tree = std::mem::take(object).into_value();
        schema::drop_gated_fields(&mut tree, None, call.served.resource.schema());
        *object = Object::from_value(tree).unwrap_or_default();
    }
}

async fn store(
    call: &Call<'_>,
    object: Object,
    run: Run,
    charged: Alongside,
) -> Result<Outcome, StorageError> {
    let key = ObjectKey::namespaced(object.namespace(), object.name());
    let (object, bytes) = stored_form(call, object)?;
    if run.is_dry() {
        return match call.state.store.get(&call.served.collection, &key).await {
            Ok(_) => {
                let resource = call.served.description.group_resource();
                Err(StorageError::AlreadyExists {
                    resource,
                    name: key.name,
                })
            }
            Err(_) => Ok(Outcome::Imagined(object)),
        };
    }
    let alongside = services::alongside(call, Some(&object), None).and(charged);
    Ok(Outcome::Stored(
        call.state
            .store
            .create(&call.served.collection, &key, bytes, alongside)
            .await?,
    ))
}

/// Whether upstream keeps objects of a kind as protobuf, which shows in what it answers.
fn is_kept_as_protobuf(served: &Served) -> bool {
    served.origin == Origin::BuiltIn
        && !matches!(
            served.description.kind.group.as_ref(),
            "apiextensions.k8s.io" | "apiregistration.k8s.io"
        )
}

/// The object in its canonical form, and the bytes of it that are stored.
pub(crate) fn stored_form(
    call: &Call<'_>,
    object: Object,
) -> Result<(Object, std::sync::Arc<[u8]>), ApiError> {
    let served = call.served;
    let mut tree = object.into_value();
    schema::canonicalise(&mut tree, served.resource.schema());
    if is_kept_as_protobuf(served) {
        schema::forget_empty_lists(&mut tree, served.resource.schema());
    }
    let object = Object::from_value(tree)
        .ok_or_else(|| ApiError::internal("an object became something else"))?;
    if served.description.is_stored_version() {
        let tree = object.into_value();
        let bytes = codec::encode_stored(&tree).into();
        let object = Object::from_value(tree).expect("it was an object before");
        return Ok((object, bytes));
    }
    let mut stored = object.clone();
    served.resource.to_stored(&mut stored);
    Ok((object, codec::encode_stored(&stored.into_value()).into()))
}

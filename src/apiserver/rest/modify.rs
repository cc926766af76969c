//! The one update loop: update, patch, apply, status, scale and every other change of an existing object go through it.

use admission::Operation;
use apimachinery::{ApiError, FieldErrors, Object, ObjectKey, Reason, StoredObject};
use registry::{Generation, Permission, StatusMetadata, Subresource};
use storage::{Alongside, StorageError};

use crate::admit::{self, Admission};
use crate::call::{Call, WriteOptions};
use crate::subresources::special;
use crate::verbs::create::{Outcome, stored_form, unbuilt};
use crate::verbs::delete::remove_stamped;
use crate::{heartbeat, managed_fields, metadata, quota, services};

/// Tries of one change against others that write the same object at the same time.
const TRIES_MAX: usize = 20;

/// Which part of an object a change may touch, and which hooks it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    Status,
    /// What a subresource leads to: finalize, approval, resize …
    Special(Subresource),
    /// A scheduler's word on where a pod runs: it fills in the spec, and nobody wants anything else than before.
    Placement,
}

/// Why one try failed.
enum Failed {
    /// Somebody else wrote the object meanwhile; a version that the client named fails at the next try.
    Overtaken(ApiError),
    Refused(ApiError),
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Modified { .. } | StorageError::Contended => {
                Self::Overtaken(error.into())
            }
            other => Self::Refused(other.into()),
        }
    }
}

/// A changed object on its way to the store.
struct Change<'a, 'c> {
    call: &'a Call<'c>,
    options: &'a WriteOptions,
    part: Part,
    key: &'a ObjectKey,
}

/// Changes an existing object. `make` gets the object as it is and returns it as it should be; it runs again when somebody
/// else was quicker, unless the client named the version it wants to change.
pub(crate) async fn modify(
    call: &Call<'_>,
    key: &ObjectKey,
    part: Part,
    options: &WriteOptions,
    mut make: impl FnMut(&Object) -> Result<Object, ApiError> + Send,
) -> Result<Outcome, ApiError> {
    let change = Change {
        call,
        options,
        part,
        key,
    };
    let mut tries = 0;
    loop {
        let current = call.state.store.get(&call.served.collection, key).await?;
        let old = call.served.tree(&current)?;
        let new = make(&old)?;
        tries += 1;
        match change.carry_out(new, &old, &current).await {
            Err(Failed::Overtaken(_)) if tries < TRIES_MAX => {}
            Err(Failed::Overtaken(error) | Failed::Refused(error)) => return Err(error),
            Ok(outcome) => return Ok(outcome),
        }
    }
}

impl Change<'_, '_> {
    async fn carry_out(
        &self,
        mut object: Object,
        old: &Object,
        current: &StoredObject,
    ) -> Result<Outcome, Failed> {
        self.check_version(&mut object, old)?;
        self.check_uid(&object, old)?;
        metadata::match_namespace(&mut object, &self.key.namespace)?;
        let defaulted = self.call.served.resource.default(&mut object);
        defaulted.map_err(ApiError::internal)?;
        // Who owns what is found out from what the request can change at all.
        self.reset(&mut object, old);
        managed_fields::on_update(self.call, &mut object, old, self.options)?;
        let admission = Admission {
            operation: Operation::Update,
            name: &self.key.name,
            namespace: &self.key.namespace,
            run: self.options.run,
        };
        admit::mutate(self.call, admission, &mut object, Some(old)).await?;
        self.prepare(&mut object, old);
        if self.part == Part::Main {
            services::fill(self.call, &mut object, Some(old), self.options.run).await?;
        }
        self.check(&mut object, old)?;
        admit::validate(self.call, admission, Some(&mut object), Some(old)).await?;
        self.store(object, old, current).await
    }

    /// The optimistic lock: a version that the client names must be the newest.
    fn check_version(&self, object: &mut Object, old: &Object) -> Result<(), ApiError> {
        let description = &self.call.served.description;
        match object.resource_version() {
            "" | "0" if description.unconditional_update == Permission::Allowed => {
                object.set_metadata_text("resourceVersion", old.resource_version());
                Ok(())
            }
            "" => Ok(()),
            told if told == old.resource_version() => Ok(()),
            told if told.parse::<u64>().is_err() => {
                let why = format!("strconv.ParseUint: parsing {told:?}: invalid syntax");
                Err(ApiError::new(500, Reason::Unknown, why))
            }
            _ => Err(ApiError::modified(
                &description.group_resource(),
                &self.key.name,
            )),
        }
    }

    fn check_uid(&self, object: &Object, old: &Object) -> Result<(), ApiError> {
        if object.uid().is_empty() || object.uid() == old.uid() {
            return Ok(());
        }
        let key = self.call.served.collection.key(self.key);
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: \
             UID in precondition: {}, UID in object meta: {}",
            String::from_utf8_lossy(&key),
            object.uid(),
            old.uid()
        );
        Err(ApiError::conflict(
            &self.call.served.description.group_resource(),
            &self.key.name,
            &why,
        ))
    }

    /// Takes back what this kind of write cannot change.
    fn reset(&self, object: &mut Object, old: &Object) {
        let description = &self.call.served.description;
        match self.part {
            Part::Main => {
                if description.has(Subresource::Status) {
                    copy_top(object, old, "status");
                }
            }
            Part::Status => {
                let status = object.0.remove("status");
                let metadata = object.metadata().cloned();
                restore(object, old);
                keep_status_metadata(object, metadata.as_ref(), description.status_metadata);
                set_or_remove(&mut object.0, "status", status);
            }
            Part::Special(subresource) => {
                special::keep(subresource, object, old, self.call.state.now());
            }
            Part::Placement => {}
        }
        metadata::keep_from_old(object, old);
    }

    /// The common rules of status and generation.
    fn prepare(&self, object: &mut Object, old: &Object) {
        let description = &self.call.served.description;
        self.reset(object, old);
        if matches!(self.part, Part::Main | Part::Special(_))
            && grows(description.generation, object, old)
        {
            object.set_generation(old.generation() + 1);
        }
        if let schema::Node::Type(_) = self.call.served.resource.schema() {
            let mut tree = std::mem::take(object).into_value();
            let old = old.clone().into_value();
            schema::drop_gated_fields(&mut tree, Some(&old), self.call.served.resource.schema());
            *object = Object::from_value(tree).unwrap_or_default();
        }
    }

    fn check(&self, object: &mut Object, old: &Object) -> Result<(), ApiError> {
        let resource = &self.call.served.resource;
        let verdict = match self.part {
            Part::Main => resource.check_update(object, old),
            Part::Status => resource.check_status_update(object, old),
            Part::Special(subresource) => {
                resource.check_subresource_update(subresource, object, old)
            }
            Part::Placement => Ok(registry::Verdict::default()),
        };
        let verdict = verdict.map_err(ApiError::internal)?;
        let mut errors = FieldErrors::none();
        errors.extend(metadata::validate(object, &self.call.served.description));
        let update = metadata::validate_update(object, old);
        errors.extend(update.clone());
        // Upstream's kinds validate their metadata once more, after the common part, and clients see both.
        match self.part {
            Part::Status | Part::Special(Subresource::Finalize) => errors.extend(update),
            Part::Main | Part::Special(_) => {
                errors.extend(update);
                errors.extend(metadata::validate(object, &self.call.served.description));
            }
            Part::Placement => {}
        }
        errors.extend(verdict.errors);
        if self.part == Part::Main {
            errors.extend(unbuilt(self.call, object));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(
                &self.call.group_kind(),
                &self.key.name,
                &errors,
            ));
        }
        verdict
            .warnings
            .into_iter()
            .for_each(|warning| self.call.warnings.add(warning));
        Ok(())
    }

    /// Writes what changed. An object whose deletion only waited for its finalizers goes with the last of them.
    async fn store(
        &self,
        object: Object,
        old: &Object,
        current: &StoredObject,
    ) -> Result<Outcome, Failed> {
        let (mut object, bytes) = stored_form(self.call, object)?;
        let store = &self.call.state.store;
        let collection = &self.call.served.collection;
        let ends = is_finally_deleted(&object);
        if self.options.run.is_dry() {
            if !ends {
                self.charged(&object, old).await?;
            }
            object.set_metadata_text("resourceVersion", old.resource_version());
            return Ok(Outcome::Imagined(object));
        }
        if ends {
            let written = if bytes == current.bytes {
                current.clone()
            } else {
                store
                    .replace(
                        collection,
                        self.key,
                        bytes,
                        current.revision,
                        Alongside::default(),
                    )
                    .await?
            };
            let released = services::alongside(self.call, None, Some(old));
            let gone = remove_stamped(self.call, self.key, written, &released).await?;
            return Ok(Outcome::Stored(gone));
        }
        let is_same = {
            object.set_metadata_text("resourceVersion", old.resource_version());
            object == *old
        };
        if is_same {
            return Ok(Outcome::Stored(current.clone()));
        }
        let heartbeats = self.call.served.description.heartbeats;
        if heartbeat::is_all(&object, old, heartbeats) {
            let renewed = store.renew(collection, self.key, bytes, current.revision);
            return Ok(Outcome::Stored(renewed.await?));
        }
        let charged = self.charged(&object, old).await?;
        let claimed = services::alongside(self.call, Some(&object), Some(old)).and(charged);
        Ok(Outcome::Stored(
            store
                .replace(collection, self.key, bytes, current.revision, claimed)
                .await?,
        ))
    }

    async fn charged(&self, object: &Object, old: &Object) -> Result<Alongside, ApiError> {
        match self.part {
            Part::Main | Part::Special(Subresource::Resize) => {
                quota::charge(self.call, object, Some(old), self.options.run).await
            }
            _ => Ok(Alongside::default()),
        }
    }
}

/// Nothing waits for the object any more: no finalizer, no grace, and no content of a namespace.
pub(crate) fn is_finally_deleted(object: &Object) -> bool {
    let grace = object
        .at(&["metadata", "deletionGracePeriodSeconds"])
        .and_then(serde_json::Value::as_i64);
    object.is_being_deleted()
        && object.finalizers().is_empty()
        && grace.unwrap_or(0) == 0
        && !has_content_finalizers(object)
}

/// Namespaces keep the finalizers for what is in them in their spec.
pub(crate) fn has_content_finalizers(object: &Object) -> bool {
    object.kind() == "Namespace"
        && object.api_version() == "v1"
        && object
            .at(&["spec", "finalizers"])
            .and_then(serde_json::Value::as_array)
            .is_some_and(|all| !all.is_empty())
}

/// A write to the status may also change labels, annotations, owners and finalizers, as upstream's strategies let it.
fn keep_status_metadata(
    object: &mut Object,
    told: Option<&serde_json::Map<String, serde_json::Value>>,
    writable: StatusMetadata,
) {
    let fields: &[&str] = match writable {
        StatusMetadata::Writable => &["labels", "annotations", "finalizers", "ownerReferences"],
        StatusMetadata::WithoutLabels => &["annotations", "finalizers", "ownerReferences"],
        StatusMetadata::WithoutOwners => &["labels", "annotations", "finalizers"],
        StatusMetadata::Fixed => &[],
    };
    for &field in fields {
        let value = told.and_then(|metadata| metadata.get(field)).cloned();
        set_or_remove(object.metadata_mut(), field, value);
    }
}

/// Makes the object the old one again, but for the version that the client named and the owners of its fields.
pub(crate) fn restore(object: &mut Object, old: &Object) {
    let managed = object.metadata_mut().remove("managedFields");
    let version = object.resource_version().to_owned();
    *object = old.clone();
    object.set_metadata_text("resourceVersion", version);
    set_or_remove(object.metadata_mut(), "managedFields", managed);
}

pub(crate) fn set_or_remove(
    map: &mut serde_json::Map<String, serde_json::Value>,
    field: &str,
    value: Option<serde_json::Value>,
) {
    match value {
        Some(value) => {
            map.insert(field.to_owned(), value);
        }
        None => {
            map.remove(field);
        }
    }
}

fn copy_top(object: &mut Object, old: &Object, field: &str) {
    set_or_remove(&mut object.0, field, old.0.get(field).cloned());
}

/// Does the change count as a new generation?
fn grows(generation: Generation, object: &Object, old: &Object) -> bool {
    match generation {
        Generation::Untracked | Generation::One => false,
        Generation::Spec | Generation::SpecFromNone => object.0.get("spec") != old.0.get("spec"),
        Generation::Content => {
            let content = |object: &Object| {
                let mut tree = object.0.clone();
                tree.remove("metadata");
                tree.remove("status");
                tree
            };
            content(object) != content(old)
        }
    }
}

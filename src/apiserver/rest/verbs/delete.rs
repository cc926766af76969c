//! The end of an object: at once, or stamped until its finalizers and its grace are over.

use admission::Operation;
use apimachinery::{ApiError, GroupResource, Object, ObjectKey, StoredObject};
use registry::{DefaultCascade, DeleteAnswer};
use serde_json::{Value, json};
use storage::{Alongside, StorageError};

use crate::admit::{self, Admission};
use crate::answer::{Answer, success};
use crate::call::Call;
use crate::delete_options::{Cascade, DeleteOptions, Preconditions};
use crate::modify::{has_content_finalizers, is_finally_deleted};
use crate::services;
use crate::verbs::create::stored_form;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Tries of one delete against writers of the same object.
const TRIES_MAX: usize = 20;

/// What a delete came to.
#[derive(Debug)]
pub(crate) enum Deleted {
    Gone(StoredObject),
    /// Something else must happen first.
    Pending(StoredObject),
    /// It was on its way already.
    AlreadyPending(StoredObject),
    /// A dry run.
    Imagined(Object),
}

pub(crate) async fn delete(call: &Call<'_>) -> Result<Answer, ApiError> {
    let options = DeleteOptions::of(call)?;
    let deleted = delete_object(call, &call.key(), &options).await?;
    Ok(answer(call, deleted, &options))
}

fn answer(call: &Call<'_>, deleted: Deleted, options: &DeleteOptions) -> Answer {
    let served = call.served.clone();
    let as_object = served.description.delete_answer == DeleteAnswer::Object;
    let code = match deleted {
        Deleted::Pending(_) | Deleted::AlreadyPending(_) if options.wants_accepted() => 202,
        _ => 200,
    };
    match deleted {
        Deleted::Pending(object) => Answer::Object {
            code,
            served,
            object,
        },
        Deleted::Gone(object) | Deleted::AlreadyPending(object) if as_object => Answer::Object {
            code,
            served,
            object,
        },
        Deleted::Gone(object) | Deleted::AlreadyPending(object) => {
            Answer::value(code, done(call, &object.key().name, &object.index.uid))
        }
        Deleted::Imagined(object) if as_object || object.is_being_deleted() => Answer::Value {
            code,
            served: Some(served),
            value: object.into_value(),
        },
        Deleted::Imagined(object) => Answer::value(code, done(call, object.name(), object.uid())),
    }
}

fn done(call: &Call<'_>, name: &str, uid: &str) -> Value {
    let resource = call.served.description.group_resource();
    let mut details = json!({"name": name, "kind": resource.resource, "uid": uid});
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    success(details)
}

/// Deletes one object, or sets its deletion going.
pub(crate) async fn delete_object(
    call: &Call<'_>,
    key: &ObjectKey,
    options: &DeleteOptions,
) -> Result<Deleted, ApiError> {
    let mut tries = 0;
    loop {
        let current = call.state.store.get(&call.served.collection, key).await?;
        let old = call.served.tree(&current)?;
        check_preconditions(call, options.preconditions.as_ref(), &old)?;
        let admission = Admission {
            operation: Operation::Delete,
            name: &key.name,
            namespace: &key.namespace,
            run: options.run(),
        };
        admit::admit_delete(call, admission, &old).await?;
        admit::validate(call, admission, None, Some(&old)).await?;
        tries += 1;
        match carry_out(call, key, options, &old, &current).await {
            Err(StorageError::Modified { .. }) if tries < TRIES_MAX => {}
            other => return other.map_err(ApiError::from),
        }
    }
}

pub(crate) fn check_preconditions(
    call: &Call<'_>,
    preconditions: Option<&Preconditions>,
    old: &Object,
) -> Result<(), ApiError> {
    let Some(preconditions) = preconditions else {
        return Ok(());
    };
    // Upstream names the kind here, not the resource.
    let kind = call.group_kind();
    let about = GroupResource {
        group: kind.group,
        resource: kind.kind,
    };
    if let Some(uid) = preconditions.uid.as_deref().filter(|uid| *uid != old.uid()) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted \
             and then recreated",
            old.uid()
        );
        return Err(ApiError::conflict(&about, old.name(), &why));
    }
    let version = preconditions.resource_version.as_deref();
    if let Some(version) = version.filter(|version| *version != old.resource_version()) {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The \
             object might have been modified",
            old.resource_version()
        );
        return Err(ApiError::conflict(&about, old.name(), &why));
    }
    Ok(())
}

/// What is to be done with one object.
#[derive(Debug, PartialEq)]
enum Plan {
    /// Nothing: it waits already, and not for less.
    Wait,
    Remove,
    /// Stamp it and let others finish.
    Stamp(Object),
    /// Stamp it, so that watchers see why it goes, and remove it.
    StampAndRemove(Object),
}

async fn carry_out(
    call: &Call<'_>,
    key: &ObjectKey,
    options: &DeleteOptions,
    old: &Object,
    current: &StoredObject,
) -> Result<Deleted, StorageError> {
    let store = &call.state.store;
    let collection = &call.served.collection;
    let plan = plan(call, old, options);
    if options.run().is_dry() {
        return Ok(Deleted::Imagined(match plan {
            Plan::Wait | Plan::Remove => old.clone(),
            Plan::Stamp(object) | Plan::StampAndRemove(object) => object,
        }));
    }
    match plan {
        Plan::Wait => Ok(Deleted::AlreadyPending(current.clone())),
        Plan::Remove => {
            let released = services::alongside(call, None, Some(old));
            Ok(Deleted::Gone(
                store
                    .delete(collection, key, current.revision, released)
                    .await?,
            ))
        }
        Plan::Stamp(object) if object == *old => Ok(Deleted::Pending(current.clone())),
        Plan::Stamp(object) => {
            let (_, bytes) = stored_form(call, object)?;
            Ok(Deleted::Pending(
                store
                    .replace(
                        collection,
                        key,
                        bytes,
                        current.revision,
                        Alongside::default(),
                    )
                    .await?,
            ))
        }
        Plan::StampAndRemove(object) => {
            let (_, bytes) = stored_form(call, object)?;
            let stamped = store
                .replace(
                    collection,
                    key,
                    bytes,
                    current.revision,
                    Alongside::default(),
                )
                .await?;
            let gone = remove_stamped(call, key, stamped, &Alongside::default()).await?;
            Ok(Deleted::Gone(gone))
        }
    }
}

/// Removes an object that waits for nothing any more. Others saw that too and may be quicker, or write to it once more:
/// whoever wins, it is gone as was asked, in its last known state.
pub(crate) async fn remove_stamped(
    call: &Call<'_>,
    key: &ObjectKey,
    stamped: StoredObject,
    released: &Alongside,
) -> Result<StoredObject, StorageError> {
    let store = &call.state.store;
    let collection = &call.served.collection;
    let mut last = stamped;
    let mut tries = 0;
    loop {
        tries += 1;
        let deleted = store.delete(collection, key, last.revision, released.clone());
        let refused = match deleted.await {
            Err(error @ StorageError::Modified { .. }) if tries < TRIES_MAX => error,
            outcome => return outcome,
        };
        match store.get(collection, key).await {
            Ok(newer) if newer.index.uid != last.index.uid => return Ok(last),
            // It was not the object that somebody wrote.
            Ok(newer) if newer.revision == last.revision => return Err(refused),
            Ok(newer) if is_finally_deleted(&newer.to_object().unwrap_or_default()) => last = newer,
            Ok(_waits_again) => return Err(refused),
            Err(StorageError::NotFound { .. }) => return Ok(last),
            Err(error) => return Err(error),
        }
    }
}

fn plan(call: &Call<'_>, old: &Object, options: &DeleteOptions) -> Plan {
    let now = call.state.now();
    let mut object = old.clone();
    let grace = match pod_grace(call, old, options, now) {
        Grace::Pending => return Plan::Wait,
        grace => grace,
    };
    set_cascade(call, &mut object, options.cascade());
    guard_definition(call, &mut object, now);
    let waits = !object.finalizers().is_empty() || has_content_finalizers(&object);
    match grace {
        Grace::Period { seconds, until } => {
            if !old.is_being_deleted() && object.generation() > 0 {
                object.set_generation(object.generation() + 1);
            }
            object.set_metadata_text("deletionTimestamp", until.to_seconds_string());
            object.set_at(&["metadata", "deletionGracePeriodSeconds"], seconds.into());
            if waits || seconds > 0 {
                Plan::Stamp(object)
            } else {
                Plan::StampAndRemove(object)
            }
        }
        Grace::None | Grace::Pending if waits => {
            mark_as_deleting(&mut object, now);
            Plan::Stamp(object)
        }
        Grace::None | Grace::Pending => Plan::Remove,
    }
}

/// A definition stays until its resources are gone.
fn guard_definition(call: &Call<'_>, object: &mut Object, now: env::Timestamp) {
    let kind = &call.served.description.kind;
    if kind.kind != "CustomResourceDefinition" || object.is_being_deleted() {
        return;
    }
    let present: Vec<String> = object.finalizers().into_iter().map(Into::into).collect();
    if !present
        .iter()
        .any(|finalizer| finalizer == extensions::FINALIZER)
    {
        object.set_finalizers(
            present
                .into_iter()
                .chain([extensions::FINALIZER.to_owned()])
                .collect(),
        );
    }
    let terminating = json!({
        "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        "lastTransitionTime": now.to_seconds_string(),
    });
    let mut conditions = object
        .at(&["status", "conditions"])
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "Terminating");
    conditions.push(terminating);
    object.set_at(&["status", "conditions"], conditions.into());
}

fn mark_as_deleting(object: &mut Object, now: env::Timestamp) {
    let stamped = env::Timestamp::parse(object.metadata_text("deletionTimestamp"));
    if stamped.is_none() && object.generation() > 0 {
        object.set_generation(object.generation() + 1);
    }
    if stamped.is_none_or(|stamped| stamped > now) {
        object.set_metadata_text("deletionTimestamp", now.to_seconds_string());
    }
    if has_content_finalizers(object) {
        object.set_at(&["status", "phase"], "Terminating".into());
    } else {
        object.set_at(&["metadata", "deletionGracePeriodSeconds"], 0.into());
    }
}

enum Grace {
    /// The kind knows no grace, or it is over.
    None,
    Period {
        seconds: i64,
        until: env::Timestamp,
    },
    /// A grace that runs already and may only be shortened.
    Pending,
}

/// Pods get time to end; nothing else does.
fn pod_grace(call: &Call<'_>, old: &Object, options: &DeleteOptions, now: env::Timestamp) -> Grace {
    let kind = &call.served.description.kind;
    if kind.kind != "Pod" || !kind.group.is_empty() {
        return Grace::None;
    }
    let number = |path: &[&str]| old.at(path).and_then(Value::as_i64);
    let asked = options
        .grace_period_seconds
        .map(|seconds| if seconds < 0 { 1 } else { seconds });
    if old.is_being_deleted() {
        let running = match number(&["metadata", "deletionGracePeriodSeconds"]) {
            None | Some(0) => return Grace::None,
            Some(running) => running.max(1),
        };
        return match asked {
            Some(shorter) if shorter < running => shortened(old, running, shorter, now),
            _ => Grace::Pending,
        };
    }
    let ended = matches!(
        old.text_at(&["status", "phase"]).as_str(),
        "Failed" | "Succeeded"
    );
    let seconds = if old.text_at(&["spec", "nodeName"]).is_empty() || ended {
        0
    } else {
        let seconds = asked
            .or_else(|| number(&["spec", "terminationGracePeriodSeconds"]))
            .unwrap_or(0);
        if seconds < 0 { 1 } else { seconds }
    };
    Grace::Period {
        seconds,
        until: now.saturating_add(std::time::Duration::from_secs(seconds.unsigned_abs())),
    }
}

fn shortened(old: &Object, running: i64, shorter: i64, now: env::Timestamp) -> Grace {
    let seconds = |number: i64| std::time::Duration::from_secs(number.unsigned_abs());
    let stamped = env::Timestamp::parse(old.metadata_text("deletionTimestamp")).unwrap_or(now);
    let until = stamped
        .saturating_sub(seconds(running))
        .saturating_add(seconds(shorter));
    if until < now {
        // The time is over already; whoever ends the pod still gets to see it, unless it is to go at once.
        return Grace::Period {
            seconds: shorter.min(1),
            until: now,
        };
    }
    Grace::Period {
        seconds: shorter,
        until,
    }
}

/// Finalizers that tell the garbage collector what to do with dependents.
fn set_cascade(call: &Call<'_>, object: &mut Object, cascade: Cascade) {
    let present: Vec<String> = object.finalizers().into_iter().map(Into::into).collect();
    let has = |name: &str| present.iter().any(|finalizer| finalizer == name);
    let wanted = match cascade {
        Cascade::Orphan => Some(ORPHAN),
        Cascade::Foreground => Some(FOREGROUND),
        Cascade::Background => None,
        Cascade::Unsaid if has(ORPHAN) => Some(ORPHAN),
        Cascade::Unsaid if has(FOREGROUND) => Some(FOREGROUND),
        Cascade::Unsaid if call.served.description.default_cascade == DefaultCascade::Orphan => {
            Some(ORPHAN)
        }
        Cascade::Unsaid => None,
    };
    let mut finalizers: Vec<String> = present
        .iter()
        .filter(|finalizer| !matches!(finalizer.as_str(), ORPHAN | FOREGROUND))
        .cloned()
        .collect();
    finalizers.extend(wanted.map(Into::into));
    let mut sorted = (finalizers.clone(), present.clone());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    if sorted.0 != sorted.1 {
        object.set_finalizers(finalizers);
    }
}

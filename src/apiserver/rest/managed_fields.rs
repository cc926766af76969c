//! The one place where writes meet the bookkeeping of who owns which field.

use apimachinery::{ApiError, Object};
use field_manager::{Actor, Writable};

use crate::call::{Call, Ownership, WriteOptions};

/// Calls `act` as the writer of this request.
pub(crate) fn with_actor<T>(
    call: &Call<'_>,
    options: &WriteOptions,
    act: impl FnOnce(&Actor<'_>) -> T,
) -> T {
    // Upstream loses the time where owners are carried over from a scale to its workload.
    let now = if call.path.subresource == "scale" {
        String::new()
    } else {
        call.state.now().to_seconds_string()
    };
    let api_version = call.served.description.kind.api_version();
    act(&Actor {
        manager: &options.field_manager,
        api_version: &api_version,
        subresource: &call.path.subresource,
        now: &now,
        writable: writable(call),
    })
}

/// What the door that a request came through leads to.
fn writable(call: &Call<'_>) -> Writable<'static> {
    match call.path.subresource.as_str() {
        "" if call.served.description.has(registry::Subresource::Status) => {
            Writable::AllBut(&[&["status"]])
        }
        "status" => Writable::AllBut(&[&["spec"]]),
        "approval" => Writable::AllBut(&[&["spec"], &["status", "certificate"]]),
        "finalize" => Writable::AllBut(&[&["status"]]),
        "ephemeralcontainers" => Writable::Only(&[&["spec", "ephemeralContainers"]]),
        "resize" => Writable::Only(&[
            &["spec", "containers", "*", "resources"],
            &["spec", "containers", "*", "resizePolicy"],
            &["spec", "initContainers", "*", "resources"],
            &["spec", "initContainers", "*", "resizePolicy"],
        ]),
        _ => Writable::AllBut(&[]),
    }
}

/// Notes the manager of a new object's fields.
pub(crate) fn on_create(
    call: &Call<'_>,
    object: &mut Object,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    track(call, None, object, options)
}

/// Notes the manager of the fields that an update changed.
pub(crate) fn on_update(
    call: &Call<'_>,
    object: &mut Object,
    old: &Object,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    track(call, Some(old), object, options)
}

fn track(
    call: &Call<'_>,
    old: Option<&Object>,
    object: &mut Object,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    if options.ownership == Ownership::Applied {
        return Ok(());
    }
    let node = call.served.resource.schema();
    // Owners are those of fields as they are stored, with the empty ones that are always there.
    let mut tree = std::mem::take(object).into_value();
    schema::canonicalise(&mut tree, node);
    *object = Object::from_value(tree)
        .ok_or_else(|| ApiError::internal("an object became something else"))?;
    with_actor(call, options, |actor| {
        field_manager::track(old, object, node, actor);
    });
    Ok(())
}

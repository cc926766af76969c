//! Changes of a collection.

use std::time::Duration;

use apimachinery::{ApiError, FieldError, FieldErrors, FieldPath, GroupKind, Reason};
use storage::{WatchOptions, WatchStart};

use crate::answer::Answer;
use crate::call::Call;
use crate::verbs::list::parse_revision;

/// A watch without `timeoutSeconds` ends after this time and up to as much again, so that not all end together.
const WATCH_TIME_MIN: Duration = Duration::from_mins(30);

pub(crate) async fn watch(call: &Call<'_>) -> Result<Answer, ApiError> {
    let options = watch_options(call)?;
    let timeout = match call.query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
        _ => WATCH_TIME_MIN + Duration::from_secs(call.state.rng().below(WATCH_TIME_MIN.as_secs())),
    };
    let watch = call
        .state
        .store
        .watch(&call.served.collection, options)
        .await?;
    Ok(Answer::Watch {
        served: call.served.clone(),
        watch: Box::new(watch),
        timeout,
    })
}

fn watch_options(call: &Call<'_>) -> Result<WatchOptions, ApiError> {
    check(call)?;
    let revision = call
        .query
        .text("resourceVersion")
        .map(parse_revision)
        .transpose();
    let revision = revision
        .map_err(|why| ApiError::new(500, Reason::Unknown, why))?
        .unwrap_or(0);
    let initial_events = call
        .query
        .text("sendInitialEvents")
        .map(|text| text == "true");
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let start = match (initial_events, revision) {
        (Some(true), _) if bookmarks => WatchStart::StateThenBookmark,
        (Some(true), _) | (None, 0) => WatchStart::State,
        (Some(false), 0) => WatchStart::After(call.state.store.current_revision()),
        (_, revision) => WatchStart::After(revision),
    };
    let mut matching = call.matching()?;
    if !call.path.name.is_empty() && matching.fields.exact("metadata.name").is_none() {
        // The old form `/watch/…/pods/name` watches one object.
        let one = apimachinery::FieldSelector::equals("metadata.name", call.path.name.clone());
        matching.fields.0.extend(one.0);
    }
    let namespace = Some(call.namespace().to_owned()).filter(|namespace| !namespace.is_empty());
    Ok(WatchOptions {
        namespace,
        matching,
        start,
        bookmarks,
    })
}

/// Which parameters go together.
fn check(call: &Call<'_>) -> Result<(), ApiError> {
    let initial_events = call.query.text("sendInitialEvents");
    let how = call.query.text("resourceVersionMatch");
    let mut errors = FieldErrors::none();
    match (initial_events, how) {
        (None, Some(_)) => errors.push(FieldError::forbidden(
            &FieldPath::new("resourceVersionMatch"),
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        (Some(_), None) => errors.push(FieldError::forbidden(
            &FieldPath::new("resourceVersionMatch"),
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        (Some(_), Some(how)) if how != "NotOlderThan" => {
            errors.push(FieldError::not_supported(
                &FieldPath::new("resourceVersionMatch"),
                how,
                &["NotOlderThan"],
            ));
        }
        _ => {}
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(
            &GroupKind::new("meta.k8s.io", "ListOptions"),
            "",
            &errors,
        ))
    }
}

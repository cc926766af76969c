//! Events of `events.k8s.io/v1`.

use crate::core::event_validation::{self, EventFacts};
use crate::validation::changes::immutable;
use crate::validation::{found, text};
use apimachinery::Object;
use apimachinery::zero_times::is_set;
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::events::v1::Event;

use crate::cells;
use crate::{Column, Permission, Retention, SelectableField, StoredAs, Strategy};
use env::Timestamp;

/// Objects of kind `Event`.
#[derive(Debug)]
pub struct Events;

impl Strategy for Events {
    type Kind = Event;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::text("Last Seen", |event, now| last_seen(event, now).into()),
        Column::text("Type", |event, _| {
            event.type_.clone().unwrap_or_default().into()
        }),
        Column::text("Reason", |event, _| {
            event.reason.clone().unwrap_or_default().into()
        }),
        Column::text("Object", |event, _| object(event).into()),
        Column::wide_text("Subobject", |event, _| {
            event
                .regarding
                .as_ref()
                .and_then(|object| object.field_path.clone())
                .unwrap_or_default()
                .into()
        }),
        Column::wide_text("Source", |event, _| source(event).into()),
        Column::text("Message", |event, _| {
            event.note.as_deref().unwrap_or_default().trim().into()
        }),
        Column::wide_text("First Seen", |event, now| first_seen(event, now).into()),
        Column::wide_text("Count", |event, _| count(event).into()),
        Column::name().wide(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["ev"];
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
    /// Upstream's `--event-ttl`.
    const RETENTION: Retention = Retention::Seconds(3600);
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("regarding.kind", &["involvedObject.kind"]),
        SelectableField::text("regarding.namespace", &["involvedObject.namespace"]),
        SelectableField::text("regarding.name", &["involvedObject.name"]),
        SelectableField::text("regarding.uid", &["involvedObject.uid"]),
        SelectableField::text("regarding.apiVersion", &["involvedObject.apiVersion"]),
        SelectableField::text(
            "regarding.resourceVersion",
            &["involvedObject.resourceVersion"],
        ),
        SelectableField::text("regarding.fieldPath", &["involvedObject.fieldPath"]),
        SelectableField::text("reason", &["reason"]),
        SelectableField::text("reportingController", &["reportingComponent"]),
        SelectableField::text("type", &["type"]),
    ];
    const STORED_AS: Option<StoredAs> = Some(StoredAs {
        group: "",
        version: "v1",
        kind: "Event",
        plural: "events",
        to_stored,
        from_stored,
    });

    fn validate(event: &Event) -> FieldErrors {
        let regarding = event.regarding.clone().unwrap_or_default();
        event_validation::validate(&EventFacts {
            namespace: event.metadata.namespace.as_deref().unwrap_or_default(),
            object_namespace: text(&regarding.namespace),
            has_event_time: event
                .event_time
                .as_ref()
                .is_some_and(|time| is_set(time.0.as_second())),
            controller_field: "reportingController",
            controller: text(&event.reporting_controller),
            instance: text(&event.reporting_instance),
            action: text(&event.action),
            reason: text(&event.reason),
            note: text(&event.note),
        })
    }

    fn validate_create(event: &Event) -> FieldErrors {
        found(|errors| {
            series(errors, event);
            if !event
                .event_time
                .as_ref()
                .is_some_and(|time| is_set(time.0.as_second()))
            {
                errors.push(FieldError::required(&FieldPath::new("eventTime"), ""));
            }
            let kind = text(&event.type_);
            if !matches!(kind, "Normal" | "Warning") {
                let why = format!("has invalid value: {kind}");
                errors.push(FieldError::invalid(&FieldPath::new("type"), "", why));
            }
            let source = event.deprecated_source.clone().unwrap_or_default();
            let old_fields = [
                (
                    event
                        .deprecated_first_timestamp
                        .as_ref()
                        .is_some_and(|time| is_set(time.0.as_second())),
                    "firstTimestamp",
                ),
                (
                    event
                        .deprecated_last_timestamp
                        .as_ref()
                        .is_some_and(|time| is_set(time.0.as_second())),
                    "lastTimestamp",
                ),
                (event.deprecated_count.unwrap_or(0) != 0, "count"),
                (
                    !text(&source.component).is_empty() || !text(&source.host).is_empty(),
                    "source",
                ),
            ];
            for (_, field) in old_fields.into_iter().filter(|(is_set, _)| *is_set) {
                errors.push(FieldError::invalid(
                    &FieldPath::new(field),
                    "",
                    "needs to be unset",
                ));
            }
        })
    }

    /// All that may change is how often it happened.
    fn validate_update(event: &Event, old: &Event) -> FieldErrors {
        let path = FieldPath::new;
        found(|errors| {
            if event.series != old.series {
                series(errors, event);
            }
            immutable(
                errors,
                &event.regarding,
                &old.regarding,
                &path("involvedObject"),
            );
            immutable(errors, &event.reason, &old.reason, &path("reason"));
            immutable(errors, &event.note, &old.note, &path("message"));
            immutable(
                errors,
                &event.deprecated_source,
                &old.deprecated_source,
                &path("source"),
            );
            let (new_time, old_time) = (
                &event.deprecated_first_timestamp,
                &old.deprecated_first_timestamp,
            );
            immutable(errors, new_time, old_time, &path("firstTimestamp"));
            let (new_time, old_time) = (
                &event.deprecated_last_timestamp,
                &old.deprecated_last_timestamp,
            );
            immutable(errors, new_time, old_time, &path("lastTimestamp"));
            immutable(
                errors,
                &event.deprecated_count,
                &old.deprecated_count,
                &path("count"),
            );
            immutable(errors, &event.type_, &old.type_, &path("type"));
            immutable(
                errors,
                &event.event_time,
                &old.event_time,
                &path("eventTime"),
            );
            immutable(errors, &event.action, &old.action, &path("action"));
            immutable(errors, &event.related, &old.related, &path("related"));
            immutable(
                errors,
                &event.reporting_controller,
                &old.reporting_controller,
                &path("reportingController"),
            );
            immutable(
                errors,
                &event.reporting_instance,
                &old.reporting_instance,
                &path("reportingInstance"),
            );
        })
    }
}

/// Fields that only differ by name: here, and in the core group, where events are kept.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

fn to_stored(object: &mut Object) {
    for (ours, stored) in RENAMED {
        if let Some(value) = object.0.remove(ours) {
            object.0.insert(stored.to_owned(), value);
        }
    }
}

fn from_stored(object: &mut Object) {
    for (ours, stored) in RENAMED {
        if let Some(value) = object.0.remove(stored) {
            object.0.insert(ours.to_owned(), value);
        }
    }
}

fn first_seen(event: &Event, now: Timestamp) -> String {
    match &event.deprecated_first_timestamp {
        Some(time) => cells::since(Some(time), now),
        None => cells::since_micro(event.event_time.as_ref(), now),
    }
}

fn last_seen(event: &Event, now: Timestamp) -> String {
    match (&event.series, &event.deprecated_last_timestamp) {
        (Some(series), _) => cells::since_micro(Some(&series.last_observed_time), now),
        (None, Some(time)) => cells::since(Some(time), now),
        (None, None) => first_seen(event, now),
    }
}

fn count(event: &Event) -> i32 {
    match &event.series {
        Some(series) => series.count,
        None => event
            .deprecated_count
            .filter(|count| *count != 0)
            .unwrap_or(1),
    }
}

fn object(event: &Event) -> String {
    let object = event.regarding.as_ref();
    let kind = object
        .and_then(|object| object.kind.as_deref())
        .unwrap_or_default()
        .to_lowercase();
    match object
        .and_then(|object| object.name.as_deref())
        .unwrap_or_default()
    {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Event) -> String {
    let source = event.deprecated_source.as_ref();
    cells::event_source(
        source
            .and_then(|source| source.component.as_deref())
            .or(event.reporting_controller.as_deref()),
        source
            .and_then(|source| source.host.as_deref())
            .or(event.reporting_instance.as_deref()),
    )
}

/// A series is of two at least.
fn series(errors: &mut FieldErrors, event: &Event) {
    let Some(series) = &event.series else { return };
    if series.count < 2 {
        errors.push(FieldError::invalid(
            &FieldPath::new("series.count"),
            "",
            "should be at least 2",
        ));
    }
    if !is_set(series.last_observed_time.0.as_second()) {
        errors.push(FieldError::required(
            &FieldPath::new("series.lastObservedTime"),
            "",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_way_to_the_store_and_back() {
        let event = serde_json::json!({"note": "n", "regarding": {"name": "p"}, "deprecatedCount": 2, "reason": "r"});
        let mut object = Object::from_value(event.clone()).expect("an object");
        to_stored(&mut object);
        assert_eq!(object.text_at(&["involvedObject", "name"]), "p");
        from_stored(&mut object);
        assert_eq!(object.into_value(), event);
    }
}

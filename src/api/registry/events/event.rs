//! Events of `events.k8s.io/v1`.

use apimachinery::Object;
use apimachinery::zero_times::is_set;
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::events::v1::Event;

use crate::core::event_form::{EventForm, EventView, EventsOf, Series};
use crate::validation::changes::immutable;
use crate::validation::{found, text};
use crate::{SelectableField, StoredAs};

/// Objects of kind `Event`.
pub(crate) type Events = EventsOf<Event>;

impl EventForm for Event {
    const CONTROLLER_FIELD: &'static str = "reportingController";
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

    fn view(&self) -> EventView<'_> {
        EventView {
            namespace: self.metadata.namespace.as_deref().unwrap_or_default(),
            object: self.regarding.as_ref(),
            kind: self.type_.as_deref(),
            reason: self.reason.as_deref(),
            note: self.note.as_deref(),
            action: self.action.as_deref(),
            controller: self.reporting_controller.as_deref(),
            instance: self.reporting_instance.as_deref(),
            source: self.deprecated_source.as_ref(),
            time: self.event_time.as_ref(),
            first: self.deprecated_first_timestamp.as_ref(),
            last: self.deprecated_last_timestamp.as_ref(),
            count: self.deprecated_count,
            series: self.series.as_ref().map(|series| Series {
                count: series.count,
                last: Some(&series.last_observed_time),
            }),
        }
    }

    fn validate_create(&self) -> FieldErrors {
        let event = self;
        found(|errors| {
            series(errors, event);
            if !event.view().has_time() {
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
    fn validate_update(&self, old: &Self) -> FieldErrors {
        let event = self;
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

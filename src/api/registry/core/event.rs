//! Events of `v1`.

use super::event_validation::{self, EventFacts};
use crate::validation::text;
use apimachinery::FieldErrors;
use apimachinery::zero_times::is_set;
use k8s_openapi::api::core::v1::Event;

use crate::cells;
use crate::{Column, Permission, Retention, SelectableField, Strategy};
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
                .involved_object
                .field_path
                .clone()
                .unwrap_or_default()
                .into()
        }),
        Column::wide_text("Source", |event, _| source(event).into()),
        Column::text("Message", |event, _| {
            event.message.as_deref().unwrap_or_default().trim().into()
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
        SelectableField::text("involvedObject.kind", &["involvedObject.kind"]),
        SelectableField::text("involvedObject.namespace", &["involvedObject.namespace"]),
        SelectableField::text("involvedObject.name", &["involvedObject.name"]),
        SelectableField::text("involvedObject.uid", &["involvedObject.uid"]),
        SelectableField::text("involvedObject.apiVersion", &["involvedObject.apiVersion"]),
        SelectableField::text(
            "involvedObject.resourceVersion",
            &["involvedObject.resourceVersion"],
        ),
        SelectableField::text("involvedObject.fieldPath", &["involvedObject.fieldPath"]),
        SelectableField::text("reason", &["reason"]),
        SelectableField::text("reportingComponent", &["reportingComponent"]),
        SelectableField::text("source", &["source.component", "reportingComponent"]),
        SelectableField::text("type", &["type"]),
    ];

    fn validate(event: &Event) -> FieldErrors {
        event_validation::validate(&EventFacts {
            namespace: event.metadata.namespace.as_deref().unwrap_or_default(),
            object_namespace: text(&event.involved_object.namespace),
            has_event_time: event
                .event_time
                .as_ref()
                .is_some_and(|time| is_set(time.0.as_second())),
            controller_field: "reportingComponent",
            controller: text(&event.reporting_component),
            instance: text(&event.reporting_instance),
            action: text(&event.action),
            reason: text(&event.reason),
            note: text(&event.message),
        })
    }
}

fn first_seen(event: &Event, now: Timestamp) -> String {
    match &event.first_timestamp {
        Some(time) => cells::since(Some(time), now),
        None => cells::since_micro(event.event_time.as_ref(), now),
    }
}

fn last_seen(event: &Event, now: Timestamp) -> String {
    match (&event.series, &event.last_timestamp) {
        (Some(series), _) => cells::since_micro(series.last_observed_time.as_ref(), now),
        (None, Some(time)) => cells::since(Some(time), now),
        (None, None) => first_seen(event, now),
    }
}

/// An event of the newer form that happened once carries no count.
fn count(event: &Event) -> i32 {
    match &event.series {
        Some(series) => series.count.unwrap_or(0),
        None => event.count.filter(|count| *count != 0).unwrap_or(1),
    }
}

fn object(event: &Event) -> String {
    let kind = event
        .involved_object
        .kind
        .clone()
        .unwrap_or_default()
        .to_lowercase();
    match event.involved_object.name.as_deref().unwrap_or_default() {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Event) -> String {
    let source = event.source.as_ref();
    cells::event_source(
        source
            .and_then(|source| source.component.as_deref())
            .or(event.reporting_component.as_deref()),
        source
            .and_then(|source| source.host.as_deref())
            .or(event.reporting_instance.as_deref()),
    )
}

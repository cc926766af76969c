//! What events of both groups have in common, under one name for each thing.

use std::marker::PhantomData;

use apimachinery::FieldErrors;
use apimachinery::zero_times::is_set;
use env::Timestamp;
use k8s_openapi::api::core::v1::{EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::event_validation;
use crate::cells;
use crate::{Column, Permission, Retention, SelectableField, StoredAs, Strategy, Typed};

/// Events of one of the two groups.
#[derive(Debug)]
pub(crate) struct EventsOf<E>(PhantomData<E>);

impl<E> EventsOf<E> {
    pub(crate) const STRATEGY: Self = Self(PhantomData);
}

/// What both groups say, by one name.
pub(crate) struct EventView<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) object: Option<&'a ObjectReference>,
    pub(crate) kind: Option<&'a str>,
    pub(crate) reason: Option<&'a str>,
    pub(crate) note: Option<&'a str>,
    pub(crate) action: Option<&'a str>,
    pub(crate) controller: Option<&'a str>,
    pub(crate) instance: Option<&'a str>,
    pub(crate) source: Option<&'a EventSource>,
    pub(crate) time: Option<&'a MicroTime>,
    pub(crate) first: Option<&'a Time>,
    pub(crate) last: Option<&'a Time>,
    pub(crate) count: Option<i32>,
    pub(crate) series: Option<Series<'a>>,
}

/// How often it happened, and when last.
pub(crate) struct Series<'a> {
    pub(crate) count: i32,
    pub(crate) last: Option<&'a MicroTime>,
}

/// The Event of one group.
pub(crate) trait EventForm: Typed {
    /// How the group calls the reporting controller.
    const CONTROLLER_FIELD: &'static str;
    const SELECTABLE_FIELDS: &'static [SelectableField];
    const STORED_AS: Option<StoredAs>;
    fn view(&self) -> EventView<'_>;
    fn validate_create(&self) -> FieldErrors {
        FieldErrors::none()
    }
    fn validate_update(&self, _old: &Self) -> FieldErrors {
        FieldErrors::none()
    }
}

impl<E: EventForm> Strategy for EventsOf<E> {
    type Kind = E;
    const COLUMNS: &'static [Column<E>] = &[
        Column::text("Last Seen", |event, now| event.view().last_seen(now).into()),
        Column::text("Type", |event, _| {
            event.view().kind.unwrap_or_default().into()
        }),
        Column::text("Reason", |event, _| {
            event.view().reason.unwrap_or_default().into()
        }),
        Column::text("Object", |event, _| event.view().object_cell().into()),
        Column::wide_text("Subobject", |event, _| {
            let field = event
                .view()
                .object
                .and_then(|object| object.field_path.as_deref());
            field.unwrap_or_default().into()
        }),
        Column::wide_text("Source", |event, _| event.view().source_cell().into()),
        Column::text("Message", |event, _| {
            event.view().note.unwrap_or_default().trim().into()
        }),
        Column::wide_text("First Seen", |event, now| {
            event.view().first_seen(now).into()
        }),
        Column::wide_text("Count", |event, _| event.view().count_cell().into()),
        Column::name().wide(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["ev"];
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
    /// Upstream's `--event-ttl`.
    const RETENTION: Retention = Retention::Seconds(3600);
    const SELECTABLE_FIELDS: &'static [SelectableField] = E::SELECTABLE_FIELDS;
    const STORED_AS: Option<StoredAs> = E::STORED_AS;

    fn validate(event: &E) -> FieldErrors {
        event_validation::validate(&event.view(), E::CONTROLLER_FIELD)
    }

    fn validate_create(event: &E) -> FieldErrors {
        event.validate_create()
    }

    fn validate_update(event: &E, old: &E) -> FieldErrors {
        event.validate_update(old)
    }
}

impl EventView<'_> {
    /// Events of the newer form have a time of their own.
    pub(crate) fn has_time(&self) -> bool {
        self.time.is_some_and(|time| is_set(time.0.as_second()))
    }

    fn first_seen(&self, now: Timestamp) -> String {
        match self.first {
            Some(time) => cells::since(Some(time), now),
            None => cells::since_micro(self.time, now),
        }
    }

    fn last_seen(&self, now: Timestamp) -> String {
        match (&self.series, self.last) {
            (Some(series), _) => cells::since_micro(series.last, now),
            (None, Some(time)) => cells::since(Some(time), now),
            (None, None) => self.first_seen(now),
        }
    }

    /// An event of the newer form that happened once carries no count.
    fn count_cell(&self) -> i32 {
        match &self.series {
            Some(series) => series.count,
            None => self.count.filter(|count| *count != 0).unwrap_or(1),
        }
    }

    fn object_cell(&self) -> String {
        let text = |field: fn(&ObjectReference) -> Option<&String>| {
            self.object.and_then(field).map_or("", String::as_str)
        };
        let kind = text(|object| object.kind.as_ref()).to_lowercase();
        match text(|object| object.name.as_ref()) {
            "" => kind,
            name => format!("{kind}/{name}"),
        }
    }

    fn source_cell(&self) -> String {
        let part = |field: fn(&EventSource) -> Option<&String>| {
            self.source.and_then(field).map(String::as_str)
        };
        cells::event_source(
            part(|source| source.component.as_ref()).or(self.controller),
            part(|source| source.host.as_ref()).or(self.instance),
        )
    }
}

//! Events of `v1`.

use k8s_openapi::api::core::v1::Event;

use super::event_form::{EventForm, EventView, EventsOf, Series};
use crate::{SelectableField, StoredAs};

/// Objects of kind `Event`.
pub(crate) type Events = EventsOf<Event>;

impl EventForm for Event {
    const CONTROLLER_FIELD: &'static str = "reportingComponent";
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
    const STORED_AS: Option<StoredAs> = None;

    fn view(&self) -> EventView<'_> {
        EventView {
            namespace: self.metadata.namespace.as_deref().unwrap_or_default(),
            object: Some(&self.involved_object),
            kind: self.type_.as_deref(),
            reason: self.reason.as_deref(),
            note: self.message.as_deref(),
            action: self.action.as_deref(),
            controller: self.reporting_component.as_deref(),
            instance: self.reporting_instance.as_deref(),
            source: self.source.as_ref(),
            time: self.event_time.as_ref(),
            first: self.first_timestamp.as_ref(),
            last: self.last_timestamp.as_ref(),
            count: self.count,
            series: self.series.as_ref().map(|series| Series {
                count: series.count.unwrap_or(0),
                last: series.last_observed_time.as_ref(),
            }),
        }
    }
}

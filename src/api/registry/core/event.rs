//! Events of `v1`.

use k8s_openapi::api::core::v1::Event;

use crate::{Permission, Retention, SelectableField, Strategy};

/// Objects of kind `Event`.
#[derive(Debug)]
pub struct Events;

impl Strategy for Events {
    type Kind = Event;
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
        SelectableField::text("involvedObject.resourceVersion", &["involvedObject.resourceVersion"]),
        SelectableField::text("involvedObject.fieldPath", &["involvedObject.fieldPath"]),
        SelectableField::text("reason", &["reason"]),
        SelectableField::text("reportingComponent", &["reportingComponent"]),
        SelectableField::text("source", &["source.component", "reportingComponent"]),
        SelectableField::text("type", &["type"]),
    ];
}

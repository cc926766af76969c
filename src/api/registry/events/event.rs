//! Events of `events.k8s.io/v1`.

use apimachinery::Object;
use k8s_openapi::api::events::v1::Event;

use crate::{Permission, Retention, SelectableField, StoredAs, Strategy};

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
        SelectableField::text("regarding.kind", &["involvedObject.kind"]),
        SelectableField::text("regarding.namespace", &["involvedObject.namespace"]),
        SelectableField::text("regarding.name", &["involvedObject.name"]),
        SelectableField::text("regarding.uid", &["involvedObject.uid"]),
        SelectableField::text("regarding.apiVersion", &["involvedObject.apiVersion"]),
        SelectableField::text("regarding.resourceVersion", &["involvedObject.resourceVersion"]),
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

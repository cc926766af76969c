//! What an event must be, in either of its groups. The newer one is stricter.

use apimachinery::{FieldError, FieldErrors, FieldPath};

use super::event_form::EventView;
use crate::validation::{found, names, path};

const TEXT_CHARACTERS_MAX: usize = 128;
const NOTE_CHARACTERS_MAX: usize = 1024;
const DIFFERS: &str = "does not match event.namespace";

pub(crate) fn validate(event: &EventView<'_>, controller_field: &str) -> FieldErrors {
    let object_namespace = event
        .object
        .and_then(|object| object.namespace.as_deref())
        .unwrap_or_default();
    found(|errors| {
        let differs = if event.has_time() {
            object_namespace.is_empty() && !matches!(event.namespace, "default" | "kube-system")
        } else if object_namespace.is_empty() {
            !matches!(event.namespace, "" | "default")
        } else {
            event.namespace != object_namespace
        };
        if differs {
            errors.push(FieldError::invalid(
                &path(&["involvedObject", "namespace"]),
                object_namespace,
                DIFFERS,
            ));
        }
        if event.has_time() {
            newer(errors, event, &FieldPath::new(controller_field));
        }
        names::dns_subdomain(errors, event.namespace, &FieldPath::new("namespace"));
    })
}

fn newer(errors: &mut FieldErrors, event: &EventView<'_>, controller_path: &FieldPath) {
    let controller = event.controller.unwrap_or_default();
    if controller.is_empty() {
        errors.push(FieldError::required(controller_path, ""));
    }
    names::qualified_name(errors, controller, controller_path);
    for (field, value) in [
        ("reportingInstance", event.instance),
        ("action", event.action),
        ("reason", event.reason),
    ] {
        let path = FieldPath::new(field);
        let value = value.unwrap_or_default();
        if value.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        if value.len() > TEXT_CHARACTERS_MAX {
            let why = format!("can have at most {TEXT_CHARACTERS_MAX} characters");
            errors.push(FieldError::invalid(&path, "", why));
        }
    }
    if event.note.unwrap_or_default().len() > NOTE_CHARACTERS_MAX {
        let why = format!("can have at most {NOTE_CHARACTERS_MAX} characters");
        errors.push(FieldError::invalid(&FieldPath::new("message"), "", why));
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::Object;
    use serde_json::json;

    use crate::Resource;
    use crate::core::event::Events;

    #[test]
    fn an_event_of_the_older_form_needs_no_reporter() {
        let mut event = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a", "namespace": "default"},
            "involvedObject": {"namespace": "default"}, "eventTime": null,
        }))
        .unwrap();
        assert!(
            Events::STRATEGY
                .check_create(&mut event)
                .unwrap()
                .errors
                .is_empty()
        );
    }
}

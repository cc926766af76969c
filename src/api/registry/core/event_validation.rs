//! What an event must be, in either of its groups. The newer one is stricter.

use apimachinery::{FieldError, FieldErrors, FieldPath};

use crate::validation::{found, names, path};

const TEXT_CHARACTERS_MAX: usize = 128;
const NOTE_CHARACTERS_MAX: usize = 1024;
const DIFFERS: &str = "does not match event.namespace";

/// What both groups call by other names.
pub(crate) struct EventFacts<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) object_namespace: &'a str,
    pub(crate) has_event_time: bool,
    /// How the group calls the reporting controller.
    pub(crate) controller_field: &'a str,
    pub(crate) controller: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) action: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) note: &'a str,
}

pub(crate) fn validate(event: &EventFacts<'_>) -> FieldErrors {
    found(|errors| {
        let object_path = path(&["involvedObject", "namespace"]);
        let differs = if event.has_event_time {
            event.object_namespace.is_empty()
                && !matches!(event.namespace, "default" | "kube-system")
        } else if event.object_namespace.is_empty() {
            !matches!(event.namespace, "" | "default")
        } else {
            event.namespace != event.object_namespace
        };
        if differs {
            errors.push(FieldError::invalid(
                &object_path,
                event.object_namespace,
                DIFFERS,
            ));
        }
        if event.has_event_time {
            newer(errors, event);
        }
        names::dns_subdomain(errors, event.namespace, &FieldPath::new("namespace"));
    })
}

fn newer(errors: &mut FieldErrors, event: &EventFacts<'_>) {
    let controller_path = FieldPath::new(event.controller_field);
    if event.controller.is_empty() {
        errors.push(FieldError::required(&controller_path, ""));
    }
    names::qualified_name(errors, event.controller, &controller_path);
    for (field, value) in [
        ("reportingInstance", event.instance),
        ("action", event.action),
        ("reason", event.reason),
    ] {
        let path = FieldPath::new(field);
        if value.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        if value.len() > TEXT_CHARACTERS_MAX {
            let why = format!("can have at most {TEXT_CHARACTERS_MAX} characters");
            errors.push(FieldError::invalid(&path, "", why));
        }
    }
    if event.note.len() > NOTE_CHARACTERS_MAX {
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
        assert!(Events.check_create(&mut event).unwrap().errors.is_empty());
    }
}

//! Runtime Classes of `node.k8s.io/v1`.

use crate::pod_template::validation::tolerations;
use crate::pod_template::warnings::deprecated_label;
use crate::validation::changes::{immutable, json};
use crate::validation::{amounts, found, names};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::node::v1::Scheduling;
use std::collections::BTreeSet;

use crate::{Column, Permission, Strategy};

/// Objects of kind `RuntimeClass`.
#[derive(Debug)]
pub struct RuntimeClasses;

impl Strategy for RuntimeClasses {
    type Kind = RuntimeClass;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Handler", |class, _| class.handler.clone().into()),
        Column::age(),
    ];
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;

    fn validate(class: &RuntimeClass) -> FieldErrors {
        found(|errors| {
            let path = FieldPath::new("handler");
            match class.handler.as_str() {
                "" => errors.push(FieldError::required(&path, "")),
                handler => names::dns_label(errors, handler, &path),
            }
            if let Some(overhead) = &class.overhead {
                let requirements = ResourceRequirements {
                    limits: overhead.pod_fixed.clone(),
                    ..ResourceRequirements::default()
                };
                let no_claims = BTreeSet::new();
                amounts::container_requirements(
                    errors,
                    Some(&requirements),
                    &no_claims,
                    &FieldPath::new("overhead"),
                );
            }
            if let Some(scheduling) = &class.scheduling {
                let path = FieldPath::new("scheduling");
                names::labels(
                    errors,
                    scheduling.node_selector.as_ref(),
                    &path.child("nodeSelector"),
                );
                distinct_tolerations(errors, scheduling, &path.child("tolerations"));
            }
        })
    }

    fn validate_update(class: &RuntimeClass, old: &RuntimeClass) -> FieldErrors {
        found(|errors| {
            immutable(
                errors,
                &class.handler,
                &old.handler,
                &FieldPath::new("handler"),
            );
        })
    }

    fn warnings(class: &RuntimeClass) -> Vec<String> {
        let labels = class
            .scheduling
            .iter()
            .flat_map(|scheduling| scheduling.node_selector.iter().flatten());
        labels
            .filter_map(|(key, _)| deprecated_label(key))
            .map(|why| format!("scheduling.nodeSelector: {why}"))
            .collect()
    }
}

fn distinct_tolerations(errors: &mut FieldErrors, scheduling: &Scheduling, path: &FieldPath) {
    let all = scheduling.tolerations.as_deref().unwrap_or_default();
    tolerations(errors, all, path);
    let mut seen = BTreeSet::new();
    for (index, toleration) in all.iter().enumerate() {
        let key = (
            &toleration.key,
            &toleration.operator,
            &toleration.value,
            &toleration.effect,
        );
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(&path.index(index), json(toleration)));
        }
    }
}

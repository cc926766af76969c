//! Ingress Classes of `networking.k8s.io/v1`.

use super::ingress_validation::path_segment;
use crate::validation::changes::immutable;
use crate::validation::{found, names, path, text};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::api::networking::v1::IngressClassParametersReference;

use crate::cells;
use crate::{Column, Generation, Strategy};

/// Objects of kind `IngressClass`.
#[derive(Debug)]
pub struct IngressClasses;

impl Strategy for IngressClasses {
    type Kind = IngressClass;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column {
            cell: |class, _| {
                cells::name_of_default(
                    &class.metadata,
                    "ingressclass.kubernetes.io/is-default-class",
                )
            },
            ..Column::name()
        },
        Column::text("Controller", |class, _| {
            class
                .spec
                .as_ref()
                .and_then(|spec| spec.controller.clone())
                .unwrap_or_default()
                .into()
        }),
        Column::text("Parameters", |class, _| {
            match class
                .spec
                .as_ref()
                .and_then(|spec| spec.parameters.as_ref())
            {
                Some(parameters) => match &parameters.api_group {
                    Some(group) => {
                        format!("{}.{group}/{}", parameters.kind, parameters.name).into()
                    }
                    None => format!("{}/{}", parameters.kind, parameters.name).into(),
                },
                None => cells::NONE.into(),
            }
        }),
        Column::age(),
    ];
    const GENERATION: Generation = Generation::Spec;

    fn default(class: &mut IngressClass) {
        if let Some(parameters) = class
            .spec
            .as_mut()
            .and_then(|spec| spec.parameters.as_mut())
        {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn validate(class: &IngressClass) -> FieldErrors {
        let spec = class.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        found(|errors| {
            let controller = text(&spec.controller);
            let controller_path = path.child("controller");
            if controller.len() > CONTROLLER_BYTES_MAX {
                errors.push(FieldError::too_long(
                    &controller_path,
                    CONTROLLER_BYTES_MAX as i64,
                ));
            }
            names::domain_prefixed_path(errors, controller, &controller_path);
            if let Some(reference) = &spec.parameters {
                parameters(errors, reference, &path.child("parameters"));
            }
        })
    }

    fn validate_update(class: &IngressClass, old: &IngressClass) -> FieldErrors {
        let controller =
            |class: &IngressClass| class.spec.as_ref().and_then(|spec| spec.controller.clone());
        found(|errors| {
            immutable(
                errors,
                &controller(class),
                &controller(old),
                &path(&["spec", "controller"]),
            );
        })
    }
}

const CONTROLLER_BYTES_MAX: usize = 250;

fn parameters(
    errors: &mut FieldErrors,
    reference: &IngressClassParametersReference,
    path: &FieldPath,
) {
    if let Some(group) = &reference.api_group {
        names::dns_subdomain(errors, group, &path.child("apiGroup"));
    }
    path_segment(errors, &reference.kind, &path.child("kind"));
    path_segment(errors, &reference.name, &path.child("name"));
    let namespace_path = path.child("namespace");
    match (reference.scope.as_deref(), &reference.namespace) {
        (None, _) => errors.push(FieldError::required(&path.child("scope"), "")),
        (Some("Namespace"), None) => {
            errors.push(FieldError::required(
                &namespace_path,
                "`parameters.scope` is set to 'Namespace'",
            ));
        }
        (Some("Namespace"), Some(namespace)) => {
            names::dns_label(errors, namespace, &namespace_path);
        }
        (Some("Cluster"), Some(_)) => {
            errors.push(FieldError::forbidden(
                &namespace_path,
                "`parameters.scope` is set to 'Cluster'",
            ));
        }
        (Some("Cluster"), None) => (),
        (Some(scope), _) => {
            errors.push(FieldError::not_supported(
                &path.child("scope"),
                scope,
                &["Cluster", "Namespace"],
            ));
        }
    }
}

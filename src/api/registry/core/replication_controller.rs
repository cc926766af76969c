//! Replication Controllers of `v1`.

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec, ReplicationController};

use crate::apps::workload;
use crate::cells;
use crate::pod_template::default_template;
use crate::pod_template::validation::template_spec;
use crate::pod_template::warnings::template_warnings;
use crate::validation::numbers::non_negative;
use crate::validation::{found, path};
use crate::{Column, DefaultCascade, Generation, SelectableField, Strategy, Subresource};

/// Objects of kind `ReplicationController`.
#[derive(Debug)]
pub struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    type Kind = ReplicationController;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Desired", |object, _| {
            object
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(0)
                .into()
        }),
        Column::integer("Current", |object, _| {
            object
                .status
                .as_ref()
                .map_or(0, |status| status.replicas)
                .into()
        }),
        Column::integer("Ready", |object, _| {
            object
                .status
                .as_ref()
                .and_then(|status| status.ready_replicas)
                .unwrap_or(0)
                .into()
        }),
        Column::age(),
        Column::wide_text("Containers", |object, _| {
            cells::container_names(containers(object))
        }),
        Column::wide_text("Images", |object, _| {
            cells::container_images(containers(object))
        }),
        Column::wide_text("Selector", |object, _| {
            cells::labels(object.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["rc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const DEFAULT_CASCADE: DefaultCascade = DefaultCascade::Orphan;
    const GENERATION: Generation = Generation::Spec;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[SelectableField::with_fallback(
        "status.replicas",
        &["status.replicas"],
        "0",
    )];

    fn default(controller: &mut ReplicationController) {
        let Some(spec) = &mut controller.spec else {
            return;
        };
        if let Some(template) = &mut spec.template {
            default_template(template);
            let labels = template
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.labels.clone())
                .unwrap_or_default();
            if !labels.is_empty() {
                if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
                    spec.selector = Some(labels.clone());
                }
                if controller
                    .metadata
                    .labels
                    .as_ref()
                    .is_none_or(BTreeMap::is_empty)
                {
                    controller.metadata.labels = Some(labels);
                }
            }
        }
        spec.replicas.get_or_insert(1);
    }

    fn validate(controller: &ReplicationController) -> FieldErrors {
        let spec = controller.spec.clone().unwrap_or_default();
        found(|errors| {
            let path = FieldPath::new("spec");
            non_negative(
                errors,
                spec.min_ready_seconds.unwrap_or(0),
                &path.child("minReadySeconds"),
            );
            let selector = spec.selector.clone().unwrap_or_default();
            if selector.is_empty() {
                errors.push(FieldError::required(&path.child("selector"), ""));
            }
            match spec.replicas {
                None => errors.push(FieldError::required(&path.child("replicas"), "")),
                Some(replicas) => non_negative(errors, replicas, &path.child("replicas")),
            }
            template_of(
                errors,
                spec.template.as_ref(),
                &selector,
                &path.child("template"),
            );
        })
    }

    fn validate_status_update(
        controller: &ReplicationController,
        _old: &ReplicationController,
    ) -> FieldErrors {
        let status = controller.status.clone().unwrap_or_default();
        let path = FieldPath::new("status");
        let count = |count: Option<i32>| count.map(i64::from);
        found(|errors| {
            workload::counts(
                errors,
                &[
                    (Some(i64::from(status.replicas)), "replicas"),
                    (count(status.fully_labeled_replicas), "fullyLabeledReplicas"),
                    (count(status.ready_replicas), "readyReplicas"),
                    (count(status.available_replicas), "availableReplicas"),
                    (status.observed_generation, "observedGeneration"),
                ],
                &path,
            );
            let parts = [
                (status.fully_labeled_replicas, "fullyLabeledReplicas"),
                (status.ready_replicas, "readyReplicas"),
                (status.available_replicas, "availableReplicas"),
            ];
            workload::within_replicas(errors, status.replicas, &parts, &path);
            let ready = status.ready_replicas;
            workload::available_within_ready(
                errors,
                status.available_replicas,
                ready,
                "readyReplicas",
                &path,
            );
        })
    }

    fn warnings(controller: &ReplicationController) -> Vec<String> {
        let mut warnings: Vec<String> =
            workload::host_name_warning(&controller.metadata, "Pod names and hostnames")
                .into_iter()
                .collect();
        let template = controller
            .spec
            .as_ref()
            .and_then(|spec| spec.template.as_ref());
        warnings.extend(template_warnings(template, &path(&["spec", "template"])));
        warnings
    }

    fn warnings_on_update(
        controller: &ReplicationController,
        old: &ReplicationController,
    ) -> Vec<String> {
        if controller.metadata.generation == old.metadata.generation {
            return Vec::new();
        }
        let template = controller
            .spec
            .as_ref()
            .and_then(|spec| spec.template.as_ref());
        template_warnings(template, &path(&["spec", "template"]))
    }
}

fn containers(object: &ReplicationController) -> &[Container] {
    let spec = object
        .spec
        .as_ref()
        .and_then(|spec| spec.template.as_ref()?.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

fn template_of(
    errors: &mut FieldErrors,
    template: Option<&PodTemplateSpec>,
    selector: &BTreeMap<String, String>,
    path: &FieldPath,
) {
    let Some(template) = template else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let labels = workload::template_labels(template);
    let matches = selector
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
    if !matches {
        workload::does_not_match(errors, template, path);
    }
    template_spec(errors, template, path);
    workload::always_restarted(errors, template, "ReplicationController", path);
}

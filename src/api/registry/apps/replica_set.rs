//! Replica Sets of `apps/v1`.

use apimachinery::{FieldErrors, FieldPath};
use k8s_openapi::api::apps::v1::ReplicaSet;

use super::workload;
use crate::cells;
use crate::pod_template::default_template;
use crate::pod_template::warnings::template_warnings;
use crate::validation::changes::immutable;
use crate::validation::numbers::non_negative;
use crate::validation::{found, path};
use crate::{Column, Generation, SelectableField, Strategy, Subresource};
use k8s_openapi::api::core::v1::Container;

/// Objects of kind `ReplicaSet`.
#[derive(Debug)]
pub struct ReplicaSets;

impl Strategy for ReplicaSets {
    type Kind = ReplicaSet;
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
            cells::selector(object.spec.as_ref().map(|spec| &spec.selector))
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["rs"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[SelectableField::with_fallback(
        "status.replicas",
        &["status.replicas"],
        "0",
    )];

    fn default(set: &mut ReplicaSet) {
        let Some(spec) = &mut set.spec else { return };
        spec.replicas.get_or_insert(1);
        spec.template.iter_mut().for_each(default_template);
    }

    fn validate(set: &ReplicaSet) -> FieldErrors {
        let spec = set.spec.clone().unwrap_or_default();
        found(|errors| {
            let path = FieldPath::new("spec");
            non_negative(errors, spec.replicas.unwrap_or(0), &path.child("replicas"));
            non_negative(
                errors,
                spec.min_ready_seconds.unwrap_or(0),
                &path.child("minReadySeconds"),
            );
            workload::required_selector(errors, &spec.selector, "deployment", &path);
            workload::replicated_template(
                errors,
                &spec.selector,
                &spec.template.clone().unwrap_or_default(),
                &path,
            );
        })
    }

    fn validate_update(set: &ReplicaSet, old: &ReplicaSet) -> FieldErrors {
        let selector = |set: &ReplicaSet| set.spec.as_ref().map(|spec| spec.selector.clone());
        found(|errors| {
            immutable(
                errors,
                &selector(set),
                &selector(old),
                &path(&["spec", "selector"]),
            )
        })
    }

    fn validate_status_update(set: &ReplicaSet, _old: &ReplicaSet) -> FieldErrors {
        let status = set.status.clone().unwrap_or_default();
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
                    (count(status.terminating_replicas), "terminatingReplicas"),
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

    fn warnings(set: &ReplicaSet) -> Vec<String> {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let mut warnings: Vec<String> =
            workload::host_name_warning(&set.metadata, "Pod names and hostnames")
                .into_iter()
                .collect();
        warnings.extend(template_warnings(template, &path(&["spec", "template"])));
        warnings
    }

    fn warnings_on_update(set: &ReplicaSet, old: &ReplicaSet) -> Vec<String> {
        if set.metadata.generation == old.metadata.generation {
            return Vec::new();
        }
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        template_warnings(template, &path(&["spec", "template"]))
    }
}

fn containers(object: &ReplicaSet) -> &[Container] {
    let spec = object
        .spec
        .as_ref()
        .and_then(|spec| spec.template.as_ref()?.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

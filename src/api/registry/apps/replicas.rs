//! What ReplicaSets and ReplicationControllers have in common: columns, counts in their status, warnings.

use std::marker::PhantomData;

use apimachinery::{FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use serde_json::Value;

use super::workload;
use crate::cells;
use crate::pod_template::warnings::template_warnings;
use crate::validation::{found, path};
use crate::{Column, DefaultCascade, Generation, SelectableField, Strategy, Subresource, Typed};

/// Objects of one of the two kinds.
#[derive(Debug)]
pub(crate) struct Replicas<K>(PhantomData<K>);

impl<K> Replicas<K> {
    pub(crate) const STRATEGY: Self = Self(PhantomData);
}

/// Counts of a status, by the one name that both kinds have for each.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled: Option<i32>,
    pub(crate) ready: Option<i32>,
    pub(crate) available: Option<i32>,
    pub(crate) observed_generation: Option<i64>,
    /// Only replica sets count pods that are on their way out.
    pub(crate) terminating: Option<i32>,
}

/// A kind that keeps a number of pods of one template.
pub(crate) trait Replicated: Typed {
    const SHORT_NAMES: &'static [&'static str];
    const DEFAULT_CASCADE: DefaultCascade;
    fn desired(&self) -> Option<i32>;
    fn template(&self) -> Option<&PodTemplateSpec>;
    fn selector_cell(&self) -> Value;
    fn counts(&self) -> Counts;
    fn default(&mut self);
    fn validate(&self) -> FieldErrors;
    fn validate_update(&self, _old: &Self) -> FieldErrors {
        FieldErrors::none()
    }
}

impl<K: Replicated> Strategy for Replicas<K> {
    type Kind = K;
    const COLUMNS: &'static [Column<K>] = &[
        Column::name(),
        Column::integer("Desired", |object, _| object.desired().unwrap_or(0).into()),
        Column::integer("Current", |object, _| object.counts().replicas.into()),
        Column::integer("Ready", |object, _| {
            object.counts().ready.unwrap_or(0).into()
        }),
        Column::age(),
        Column::wide_text("Containers", |object, _| {
            cells::container_names(containers(object))
        }),
        Column::wide_text("Images", |object, _| {
            cells::container_images(containers(object))
        }),
        Column::wide_text("Selector", |object, _| object.selector_cell()),
    ];
    const SHORT_NAMES: &'static [&'static str] = K::SHORT_NAMES;
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const DEFAULT_CASCADE: DefaultCascade = K::DEFAULT_CASCADE;
    const GENERATION: Generation = Generation::Spec;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[SelectableField::with_fallback(
        "status.replicas",
        &["status.replicas"],
        "0",
    )];

    fn default(object: &mut K) {
        object.default();
    }

    fn validate(object: &K) -> FieldErrors {
        object.validate()
    }

    fn validate_update(object: &K, old: &K) -> FieldErrors {
        object.validate_update(old)
    }

    fn validate_status_update(object: &K, _old: &K) -> FieldErrors {
        let counts = object.counts();
        let path = FieldPath::new("status");
        let parts = [
            (counts.fully_labeled, "fullyLabeledReplicas"),
            (counts.ready, "readyReplicas"),
            (counts.available, "availableReplicas"),
        ];
        let wide = |count: Option<i32>| count.map(i64::from);
        found(|errors| {
            workload::counts(
                errors,
                &[
                    (Some(i64::from(counts.replicas)), "replicas"),
                    (wide(counts.fully_labeled), "fullyLabeledReplicas"),
                    (wide(counts.ready), "readyReplicas"),
                    (wide(counts.available), "availableReplicas"),
                    (counts.observed_generation, "observedGeneration"),
                    (wide(counts.terminating), "terminatingReplicas"),
                ],
                &path,
            );
            workload::within_replicas(errors, counts.replicas, &parts, &path);
            workload::available_within_ready(
                errors,
                counts.available,
                counts.ready,
                "readyReplicas",
                &path,
            );
        })
    }

    fn warnings(object: &K) -> Vec<String> {
        let host_name = workload::host_name_warning(object.metadata(), "Pod names and hostnames");
        let template = template_warnings(object.template(), &path(&["spec", "template"]));
        host_name.into_iter().chain(template).collect()
    }

    fn warnings_on_update(object: &K, old: &K) -> Vec<String> {
        if object.metadata().generation == old.metadata().generation {
            return Vec::new();
        }
        template_warnings(object.template(), &path(&["spec", "template"]))
    }
}

fn containers<K: Replicated>(object: &K) -> &[Container] {
    let spec = object
        .template()
        .and_then(|template| template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

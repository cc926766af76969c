//! Replica Sets of `apps/v1`.

use k8s_openapi::api::apps::v1::ReplicaSet;

use k8s_openapi::api::core::v1::Container;
use crate::{Column, Generation, SelectableField, Strategy, Subresource};
use crate::cells;
use crate::pod_template::default_template;

/// Objects of kind `ReplicaSet`.
#[derive(Debug)]
pub struct ReplicaSets;

impl Strategy for ReplicaSets {
    type Kind = ReplicaSet;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Desired", |object, _| object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0).into()),
        Column::integer("Current", |object, _| object.status.as_ref().map_or(0, |status| status.replicas).into()),
        Column::integer("Ready", |object, _| object.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0).into()),
        Column::age(),
        Column::wide_text("Containers", |object, _| cells::container_names(containers(object))),
        Column::wide_text("Images", |object, _| cells::container_images(containers(object))),
        Column::wide_text("Selector", |object, _| cells::selector(object.spec.as_ref().map(|spec| &spec.selector))),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["rs"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::with_fallback("status.replicas", &["status.replicas"], "0"),
    ];

    fn default(set: &mut ReplicaSet) {
        let Some(spec) = &mut set.spec else { return };
        spec.replicas.get_or_insert(1);
        spec.template.iter_mut().for_each(default_template);
    }
}

fn containers(object: &ReplicaSet) -> &[Container] {
    let spec = object.spec.as_ref().and_then(|spec| spec.template.as_ref()?.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

//! Replication Controllers of `v1`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ReplicationController};

use crate::{Column, DefaultCascade, Generation, SelectableField, Strategy, Subresource};
use crate::cells;
use crate::pod_template::default_template;

/// Objects of kind `ReplicationController`.
#[derive(Debug)]
pub struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    type Kind = ReplicationController;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Desired", |object, _| object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0).into()),
        Column::integer("Current", |object, _| object.status.as_ref().map_or(0, |status| status.replicas).into()),
        Column::integer("Ready", |object, _| object.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0).into()),
        Column::age(),
        Column::wide_text("Containers", |object, _| cells::container_names(containers(object))),
        Column::wide_text("Images", |object, _| cells::container_images(containers(object))),
        Column::wide_text("Selector", |object, _| cells::labels(object.spec.as_ref().and_then(|spec| spec.selector.as_ref()))),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["rc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const DEFAULT_CASCADE: DefaultCascade = DefaultCascade::Orphan;
    const GENERATION: Generation = Generation::Spec;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::with_fallback("status.replicas", &["status.replicas"], "0"),
    ];

    fn default(controller: &mut ReplicationController) {
        let Some(spec) = &mut controller.spec else { return };
        if let Some(template) = &mut spec.template {
            default_template(template);
            let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
            if !labels.is_empty() {
                if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
                    spec.selector = Some(labels.clone());
                }
                if controller.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
                    controller.metadata.labels = Some(labels);
                }
            }
        }
        spec.replicas.get_or_insert(1);
    }
}

fn containers(object: &ReplicationController) -> &[Container] {
    let spec = object.spec.as_ref().and_then(|spec| spec.template.as_ref()?.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

//! Daemon Sets of `apps/v1`.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use k8s_openapi::api::core::v1::Container;
use crate::{Column, Generation, Strategy, Subresource};
use crate::cells;
use crate::pod_template::{default_template, default_text};

/// Objects of kind `DaemonSet`.
#[derive(Debug)]
pub struct DaemonSets;

impl Strategy for DaemonSets {
    type Kind = DaemonSet;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Desired", |object, _| object.status.as_ref().map_or(0, |status| status.desired_number_scheduled).into()),
        Column::integer("Current", |object, _| object.status.as_ref().map_or(0, |status| status.current_number_scheduled).into()),
        Column::integer("Ready", |object, _| object.status.as_ref().map_or(0, |status| status.number_ready).into()),
        Column::integer("Up-to-date", |object, _| {
            object.status.as_ref().and_then(|status| status.updated_number_scheduled).unwrap_or(0).into()
        }),
        Column::integer("Available", |object, _| object.status.as_ref().and_then(|status| status.number_available).unwrap_or(0).into()),
        Column::text("Node Selector", |object, _| {
            let spec = object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
            cells::labels(spec.and_then(|spec| spec.node_selector.as_ref()))
        }),
        Column::age(),
        Column::wide_text("Containers", |object, _| cells::container_names(containers(object))),
        Column::wide_text("Images", |object, _| cells::container_images(containers(object))),
        Column::wide_text("Selector", |object, _| cells::selector(object.spec.as_ref().map(|spec| &spec.selector))),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["ds"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;

    fn default(set: &mut DaemonSet) {
        let Some(spec) = &mut set.spec else { return };
        default_template(&mut spec.template);
        let strategy = spec.update_strategy.get_or_insert_default();
        default_text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
    }
}

fn containers(object: &DaemonSet) -> &[Container] {
    let spec = object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

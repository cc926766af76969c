//! Deployments of `apps/v1`.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use k8s_openapi::api::core::v1::Container;
use crate::{Column, Generation, StatusMetadata, Strategy, Subresource};
use crate::cells;
use crate::pod_template::{default_template, default_text};

/// Objects of kind `Deployment`.
#[derive(Debug)]
pub struct Deployments;

impl Strategy for Deployments {
    type Kind = Deployment;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Ready", |object, _| {
            let desired = object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
            format!("{}/{desired}", status(object, |status| status.ready_replicas)).into()
        }),
        Column::text("Up-to-date", |object, _| status(object, |status| status.updated_replicas).into()),
        Column::text("Available", |object, _| status(object, |status| status.available_replicas).into()),
        Column::age(),
        Column::wide_text("Containers", |object, _| cells::container_names(containers(object))),
        Column::wide_text("Images", |object, _| cells::container_images(containers(object))),
        Column::wide_text("Selector", |object, _| {
            match semantics::selectors::label_selector(object.spec.as_ref().map(|spec| &spec.selector)) {
                Ok(selector) => selector.to_string().into(),
                Err(_) => "<invalid>".into(),
            }
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["deploy"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::WithoutLabels;
    const GENERATION: Generation = Generation::Spec;

    fn default(deployment: &mut Deployment) {
        let Some(spec) = &mut deployment.spec else { return };
        default_template(&mut spec.template);
        spec.replicas.get_or_insert(1);
        let strategy = spec.strategy.get_or_insert_default();
        default_text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(|| IntOrString::String("25%".to_owned()));
            rolling.max_surge.get_or_insert_with(|| IntOrString::String("25%".to_owned()));
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
    }

    fn prepare_for_update(deployment: &mut Deployment, old: &Deployment) {
        // Annotations travel on to replica sets, so the controller must see that they changed.
        if deployment.metadata.annotations != old.metadata.annotations {
            deployment.metadata.generation = old.metadata.generation.map(|generation| generation + 1);
        }
    }

    fn prepare_for_status_update(deployment: &mut Deployment, old: &Deployment) {
        deployment.metadata.labels.clone_from(&old.metadata.labels);
    }
}

fn containers(object: &Deployment) -> &[Container] {
    let spec = object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

fn status(deployment: &Deployment, field: fn(&DeploymentStatus) -> Option<i32>) -> i32 {
    deployment.status.as_ref().and_then(field).unwrap_or(0)
}

//! Deployments of `apps/v1`.

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::workload;
use crate::cells;
use crate::pod_template::warnings::template_warnings;
use crate::pod_template::{default_template, default_text};
use crate::validation::changes::immutable;
use crate::validation::numbers::non_negative;
use crate::validation::{amounts, found, path, text};
use crate::{Column, Generation, StatusMetadata, Strategy, Subresource};
use k8s_openapi::api::core::v1::Container;

/// Objects of kind `Deployment`.
#[derive(Debug)]
pub struct Deployments;

impl Strategy for Deployments {
    type Kind = Deployment;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Ready", |object, _| {
            let desired = object
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(0);
            format!(
                "{}/{desired}",
                status(object, |status| status.ready_replicas)
            )
            .into()
        }),
        Column::text("Up-to-date", |object, _| {
            status(object, |status| status.updated_replicas).into()
        }),
        Column::text("Available", |object, _| {
            status(object, |status| status.available_replicas).into()
        }),
        Column::age(),
        Column::wide_text("Containers", |object, _| {
            cells::container_names(containers(object))
        }),
        Column::wide_text("Images", |object, _| {
            cells::container_images(containers(object))
        }),
        Column::wide_text(
            "Selector",
            |object, _| match semantics::selectors::label_selector(
                object.spec.as_ref().map(|spec| &spec.selector),
            ) {
                Ok(selector) => selector.to_string().into(),
                Err(_) => "<invalid>".into(),
            },
        ),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["deploy"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::WithoutLabels;
    const GENERATION: Generation = Generation::Spec;

    fn default(deployment: &mut Deployment) {
        let Some(spec) = &mut deployment.spec else {
            return;
        };
        default_template(&mut spec.template);
        spec.replicas.get_or_insert(1);
        let strategy = spec.strategy.get_or_insert_default();
        default_text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling
                .max_unavailable
                .get_or_insert_with(|| IntOrString::String("25%".to_owned()));
            rolling
                .max_surge
                .get_or_insert_with(|| IntOrString::String("25%".to_owned()));
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
    }

    fn prepare_for_update(deployment: &mut Deployment, old: &Deployment) {
        // Annotations travel on to replica sets, so the controller must see that they changed.
        if deployment.metadata.annotations != old.metadata.annotations {
            deployment.metadata.generation =
                old.metadata.generation.map(|generation| generation + 1);
        }
    }

    fn prepare_for_status_update(deployment: &mut Deployment, old: &Deployment) {
        deployment.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn validate(deployment: &Deployment) -> FieldErrors {
        found(|errors| {
            spec_errors(
                errors,
                &deployment.spec.clone().unwrap_or_default(),
                &FieldPath::new("spec"),
            );
        })
    }

    fn validate_update(deployment: &Deployment, old: &Deployment) -> FieldErrors {
        let selector =
            |deployment: &Deployment| deployment.spec.as_ref().map(|spec| spec.selector.clone());
        found(|errors| {
            immutable(
                errors,
                &selector(deployment),
                &selector(old),
                &path(&["spec", "selector"]),
            );
        })
    }

    fn validate_status_update(deployment: &Deployment, old: &Deployment) -> FieldErrors {
        let status = deployment.status.clone().unwrap_or_default();
        let before = old
            .status
            .as_ref()
            .and_then(|status| status.collision_count);
        found(|errors| status_errors(errors, &status, before, &FieldPath::new("status")))
    }

    fn warnings(deployment: &Deployment) -> Vec<String> {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let mut warnings: Vec<String> =
            workload::host_name_warning(&deployment.metadata, "Pod names and hostnames")
                .into_iter()
                .collect();
        warnings.extend(template_warnings(template, &path(&["spec", "template"])));
        warnings
    }

    fn warnings_on_update(deployment: &Deployment, old: &Deployment) -> Vec<String> {
        if deployment.metadata.generation == old.metadata.generation {
            return Vec::new();
        }
        template_warnings(
            deployment.spec.as_ref().map(|spec| &spec.template),
            &path(&["spec", "template"]),
        )
    }
}

fn containers(object: &Deployment) -> &[Container] {
    let spec = object
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

fn status(deployment: &Deployment, field: fn(&DeploymentStatus) -> Option<i32>) -> i32 {
    deployment.status.as_ref().and_then(field).unwrap_or(0)
}

fn spec_errors(errors: &mut FieldErrors, spec: &DeploymentSpec, path: &FieldPath) {
    non_negative(errors, spec.replicas.unwrap_or(0), &path.child("replicas"));
    workload::required_selector(errors, &spec.selector, "deployment", path);
    workload::replicated_template(errors, &spec.selector, &spec.template, path);
    strategy(
        errors,
        &spec.strategy.clone().unwrap_or_default(),
        &path.child("strategy"),
    );
    let ready_seconds = spec.min_ready_seconds.unwrap_or(0);
    non_negative(errors, ready_seconds, &path.child("minReadySeconds"));
    if let Some(limit) = spec.revision_history_limit {
        non_negative(errors, limit, &path.child("revisionHistoryLimit"));
    }
    if let Some(deadline) = spec.progress_deadline_seconds {
        let path = path.child("progressDeadlineSeconds");
        non_negative(errors, deadline, &path);
        if deadline <= ready_seconds {
            errors.push(FieldError::invalid(
                &path,
                deadline,
                "must be greater than minReadySeconds",
            ));
        }
    }
}

fn strategy(errors: &mut FieldErrors, strategy: &DeploymentStrategy, path: &FieldPath) {
    let own = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(&own, why));
        }
        ("RollingUpdate", None) => {
            errors.push(FieldError::required(
                &own,
                "this should be defaulted and never be nil",
            ));
        }
        ("RollingUpdate", Some(rolling)) => rolling_update(errors, rolling, &own),
        ("Recreate", None) => {}
        (kind, rolling) => {
            let rolling = rolling.as_ref().map(
                |rolling| serde_json::json!({"MaxUnavailable": rolling.max_unavailable, "MaxSurge": rolling.max_surge}),
            );
            let shown = serde_json::json!({"Type": kind, "RollingUpdate": rolling});
            errors.push(FieldError::not_supported(
                path,
                shown,
                &["Recreate", "RollingUpdate"],
            ));
        }
    }
}

fn rolling_update(errors: &mut FieldErrors, rolling: &RollingUpdateDeployment, path: &FieldPath) {
    let zero = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let own = path.child("maxUnavailable");
    amounts::positive_int_or_percent(errors, unavailable, &own);
    amounts::positive_int_or_percent(errors, surge, &path.child("maxSurge"));
    if amounts::number_of(unavailable) == 0 && amounts::number_of(surge) == 0 {
        let shown = crate::validation::changes::json(unavailable);
        errors.push(FieldError::invalid(
            &own,
            shown,
            "may not be 0 when `maxSurge` is 0",
        ));
    }
    amounts::at_most_hundred_percent(errors, unavailable, &own);
}

fn status_errors(
    errors: &mut FieldErrors,
    status: &DeploymentStatus,
    collisions: Option<i32>,
    path: &FieldPath,
) {
    let count = |count: Option<i32>| count.map(i64::from);
    workload::counts(
        errors,
        &[
            (status.observed_generation, "observedGeneration"),
            (count(status.replicas), "replicas"),
            (count(status.updated_replicas), "updatedReplicas"),
            (count(status.ready_replicas), "readyReplicas"),
            (count(status.available_replicas), "availableReplicas"),
            (count(status.unavailable_replicas), "unavailableReplicas"),
            (count(status.terminating_replicas), "terminatingReplicas"),
            (count(status.collision_count), "collisionCount"),
        ],
        path,
    );
    let parts = [
        (status.updated_replicas, "updatedReplicas"),
        (status.ready_replicas, "readyReplicas"),
        (status.available_replicas, "availableReplicas"),
    ];
    workload::within_replicas(errors, status.replicas.unwrap_or(0), &parts, path);
    workload::available_within_ready(
        errors,
        status.available_replicas,
        status.ready_replicas,
        "readyReplicas",
        path,
    );
    workload::collisions(errors, status.collision_count, collisions, path);
}

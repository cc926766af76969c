//! Daemon Sets of `apps/v1`.

use apimachinery::{FieldError, FieldErrors, FieldPath, in_order};
use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::workload;
use crate::cells;
use crate::pod_template::validation::template_spec;
use crate::pod_template::warnings::template_warnings;
use crate::pod_template::{default_template, default_text};
use crate::validation::changes::{immutable, json};
use crate::validation::numbers::non_negative;
use crate::validation::{amounts, found, path, selectors, text};
use crate::{Column, Generation, Strategy, Subresource};
use k8s_openapi::api::core::v1::Container;

/// Counts the templates, for clients older than the generation of objects.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(set: &DaemonSet) -> i64 {
    let text = set
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(TEMPLATE_GENERATION));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(set: &mut DaemonSet, generation: i64) {
    set.metadata
        .annotations
        .get_or_insert_default()
        .insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
}

/// Objects of kind `DaemonSet`.
#[derive(Debug)]
pub struct DaemonSets;

impl Strategy for DaemonSets {
    type Kind = DaemonSet;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Desired", |object, _| {
            object
                .status
                .as_ref()
                .map_or(0, |status| status.desired_number_scheduled)
                .into()
        }),
        Column::integer("Current", |object, _| {
            object
                .status
                .as_ref()
                .map_or(0, |status| status.current_number_scheduled)
                .into()
        }),
        Column::integer("Ready", |object, _| {
            object
                .status
                .as_ref()
                .map_or(0, |status| status.number_ready)
                .into()
        }),
        Column::integer("Up-to-date", |object, _| {
            object
                .status
                .as_ref()
                .and_then(|status| status.updated_number_scheduled)
                .unwrap_or(0)
                .into()
        }),
        Column::integer("Available", |object, _| {
            object
                .status
                .as_ref()
                .and_then(|status| status.number_available)
                .unwrap_or(0)
                .into()
        }),
        Column::text("Node Selector", |object, _| {
            let spec = object
                .spec
                .as_ref()
                .and_then(|spec| spec.template.spec.as_ref());
            cells::labels(spec.and_then(|spec| spec.node_selector.as_ref()))
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
    const SHORT_NAMES: &'static [&'static str] = &["ds"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;

    fn default(set: &mut DaemonSet) {
        set.metadata
            .annotations
            .get_or_insert_default()
            .entry(TEMPLATE_GENERATION.to_owned())
            .or_insert_with(|| "0".to_owned());
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

    fn prepare_for_create(set: &mut DaemonSet) {
        set_template_generation(set, 1);
    }

    fn prepare_for_update(set: &mut DaemonSet, old: &DaemonSet) {
        let template = |set: &DaemonSet| set.spec.as_ref().map(|spec| spec.template.clone());
        let before = template_generation(old);
        set_template_generation(
            set,
            if template(set) == template(old) {
                before
            } else {
                before + 1
            },
        );
    }

    fn validate(set: &DaemonSet) -> FieldErrors {
        found(|errors| {
            spec_errors(
                errors,
                &set.spec.clone().unwrap_or_default(),
                &FieldPath::new("spec"),
            );
        })
    }

    fn validate_update(set: &DaemonSet, old: &DaemonSet) -> FieldErrors {
        let selector = |set: &DaemonSet| set.spec.as_ref().map(|spec| spec.selector.clone());
        found(|errors| {
            immutable(
                errors,
                &selector(set),
                &selector(old),
                &path(&["spec", "selector"]),
            );
        })
    }

    fn validate_status_update(set: &DaemonSet, old: &DaemonSet) -> FieldErrors {
        let status = set.status.clone().unwrap_or_default();
        let path = FieldPath::new("status");
        let count = |count: Option<i32>| count.map(i64::from);
        found(|errors| {
            workload::counts(
                errors,
                &[
                    (
                        Some(i64::from(status.current_number_scheduled)),
                        "currentNumberScheduled",
                    ),
                    (
                        Some(i64::from(status.number_misscheduled)),
                        "numberMisscheduled",
                    ),
                    (
                        Some(i64::from(status.desired_number_scheduled)),
                        "desiredNumberScheduled",
                    ),
                    (Some(i64::from(status.number_ready)), "numberReady"),
                    (status.observed_generation, "observedGeneration"),
                    (
                        count(status.updated_number_scheduled),
                        "updatedNumberScheduled",
                    ),
                    (count(status.number_available), "numberAvailable"),
                    (count(status.number_unavailable), "numberUnavailable"),
                    (count(status.collision_count), "collisionCount"),
                ],
                &path,
            );
            let before = old
                .status
                .as_ref()
                .and_then(|status| status.collision_count);
            workload::collisions(errors, status.collision_count, before, &path);
        })
    }

    fn warnings(set: &DaemonSet) -> Vec<String> {
        template_warnings(
            set.spec.as_ref().map(|spec| &spec.template),
            &path(&["spec", "template"]),
        )
    }
}

fn containers(object: &DaemonSet) -> &[Container] {
    let spec = object
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

fn spec_errors(errors: &mut FieldErrors, spec: &DaemonSetSpec, path: &FieldPath) {
    let template_path = path.child("template");
    selectors::label_selector(errors, Some(&spec.selector), &path.child("selector"));
    let is_missing = selectors::is_empty(&spec.selector);
    if is_missing
        || matches!(
            workload::matches(
                Some(&spec.selector),
                workload::template_labels(&spec.template)
            ),
            workload::Match::No
        )
    {
        workload::does_not_match(errors, &spec.template, &template_path);
    }
    template_spec(errors, &spec.template, &template_path);
    workload::always_restarted(errors, &spec.template, "DaemonSet", &template_path);
    non_negative(
        errors,
        spec.min_ready_seconds.unwrap_or(0),
        &path.child("minReadySeconds"),
    );
    update_strategy(
        errors,
        &spec.update_strategy.clone().unwrap_or_default(),
        &path.child("updateStrategy"),
    );
    if let Some(limit) = spec.revision_history_limit {
        non_negative(errors, limit, &path.child("revisionHistoryLimit"));
    }
}

fn update_strategy(errors: &mut FieldErrors, strategy: &DaemonSetUpdateStrategy, path: &FieldPath) {
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => {
            errors.push(FieldError::required(&path.child("rollingUpdate"), ""));
        }
        ("RollingUpdate", Some(rolling)) => {
            rolling_update(errors, rolling, &path.child("rollingUpdate"));
        }
        (kind, rolling) => {
            let rolling = rolling.as_ref().map_or_else(
                || "null".to_owned(),
                |rolling| {
                    in_order(&[
                        ("MaxUnavailable", json(&rolling.max_unavailable)),
                        ("MaxSurge", json(&rolling.max_surge)),
                    ])
                },
            );
            let shown = format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", json(kind));
            errors.push(
                FieldError::not_supported(path, kind, &["RollingUpdate", "OnDelete"])
                    .shown_as(shown),
            );
        }
    }
}

/// Pods are either replaced where they are, or beside each other.
fn rolling_update(errors: &mut FieldErrors, rolling: &RollingUpdateDaemonSet, path: &FieldPath) {
    let zero = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let (unavailable_path, surge_path) = (path.child("maxUnavailable"), path.child("maxSurge"));
    amounts::positive_int_or_percent(errors, unavailable, &unavailable_path);
    amounts::positive_int_or_percent(errors, surge, &surge_path);
    amounts::at_most_hundred_percent(errors, unavailable, &unavailable_path);
    amounts::at_most_hundred_percent(errors, surge, &surge_path);
    match (
        amounts::number_of(unavailable) != 0,
        amounts::number_of(surge) != 0,
    ) {
        (true, true) => {
            let why = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(&surge_path, json(surge), why));
        }
        (false, false) => errors.push(FieldError::required(
            &unavailable_path,
            "cannot be 0 when maxSurge is 0",
        )),
        _ => {}
    }
}

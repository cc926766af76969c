//! Validation of jobs: a selector of their own, and a template that stays as it is.

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldErrors, FieldPath, dns1123_label_error};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Affinity, Container, PodSpec, PodTemplateSpec};

use super::job::{CONTROLLER_UID_LABELS, JOB_NAME_LABELS};
use super::job_spec::{is_indexed, job_spec};
use crate::apps::workload::{self, Match};
use crate::pod_template::warnings::template_warnings;
use crate::validation::changes::{immutable, json};
use crate::validation::{found, path, selectors};

const MANY_COMPLETIONS: i32 = 100_000;
const MANY_AT_ONCE: i32 = 10_000;

pub(super) fn validate(job: &Job) -> FieldErrors {
    let empty = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&empty);
    let own = FieldPath::new("spec");
    found(|errors| {
        generated_selector(errors, job, spec);
        whole_spec(errors, spec, &own);
        let name = job.metadata.name.as_deref().unwrap_or_default();
        if let Some(completions) = spec
            .completions
            .filter(|completions| is_indexed(spec) && *completions > 0)
        {
            let last = format!("{name}-{}", completions - 1);
            if dns1123_label_error(&last).is_some() {
                let why = format!("will not able to create pod with invalid DNS label: {last}");
                errors.push(FieldError::invalid(&path(&["metadata", "name"]), name, why));
            }
        }
    })
}

fn whole_spec(errors: &mut FieldErrors, spec: &JobSpec, path: &FieldPath) {
    job_spec(errors, spec, path);
    match &spec.selector {
        None => errors.push(FieldError::required(&path.child("selector"), "")),
        Some(selector) => {
            selectors::label_selector(errors, Some(selector), &path.child("selector"));
        }
    }
    if let Match::No = workload::matches(
        spec.selector.as_ref(),
        workload::template_labels(&spec.template),
    ) {
        workload::does_not_match(errors, &spec.template, &path.child("template"));
    }
}

/// What the server wrote must not contradict what the author wrote.
fn generated_selector(errors: &mut FieldErrors, job: &Job, spec: &JobSpec) {
    if spec.manual_selector == Some(true) || spec.selector.is_none() {
        return;
    }
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    if uid.is_empty() {
        errors.push(FieldError::required(&path(&["metadata", "uid"]), ""));
    }
    let labels_path = path(&["spec", "template", "metadata", "labels"]);
    let empty = BTreeMap::new();
    let labels = workload::template_labels(&spec.template).unwrap_or(&empty);
    let expected = [
        (CONTROLLER_UID_LABELS[0], &uid),
        (JOB_NAME_LABELS[0], &name),
        (CONTROLLER_UID_LABELS[1], &uid),
        (JOB_NAME_LABELS[1], &name),
    ];
    for (key, value) in expected {
        let why = format!("must be '{value}'");
        match labels.get(key) {
            None => errors.push(FieldError::required(&labels_path.key(key), why)),
            Some(told) if told != value => errors.push(FieldError::invalid(
                &labels_path.key(key),
                json(labels),
                why,
            )),
            Some(_) => {}
        }
    }
    let expected: BTreeMap<String, String> = expected
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect();
    if let Match::No = workload::matches(spec.selector.as_ref(), Some(&expected)) {
        let shown = json(&spec.selector);
        errors.push(FieldError::invalid(
            &path(&["spec", "selector"]),
            shown,
            "`selector` not auto-generated",
        ));
    }
}

pub(super) fn validate_update(job: &Job, old: &Job) -> FieldErrors {
    let empty = JobSpec::default();
    let (spec, before) = (
        job.spec.as_ref().unwrap_or(&empty),
        old.spec.as_ref().unwrap_or(&empty),
    );
    let path = FieldPath::new("spec");
    found(|errors| {
        // Upstream validates the spec of an update twice; clients see each error once.
        completions(errors, spec, before, &path);
        immutable(
            errors,
            &spec.selector,
            &before.selector,
            &path.child("selector"),
        );
        template_update(errors, spec, before, is_editable(old, before), &path);
        immutable(
            errors,
            &spec.completion_mode,
            &before.completion_mode,
            &path.child("completionMode"),
        );
        immutable(
            errors,
            &spec.pod_failure_policy,
            &before.pod_failure_policy,
            &path.child("podFailurePolicy"),
        );
        let limit = path.child("backoffLimitPerIndex");
        immutable(
            errors,
            &spec.backoff_limit_per_index,
            &before.backoff_limit_per_index,
            &limit,
        );
        immutable(
            errors,
            &spec.managed_by,
            &before.managed_by,
            &path.child("managedBy"),
        );
        immutable(
            errors,
            &spec.success_policy,
            &before.success_policy,
            &path.child("successPolicy"),
        );
    })
}

/// Indexed jobs that are as parallel as they are long may change both at once.
fn completions(errors: &mut FieldErrors, spec: &JobSpec, old: &JobSpec, path: &FieldPath) {
    let own = path.child("completions");
    if !is_indexed(spec) {
        immutable(errors, &spec.completions, &old.completions, &own);
        return;
    }
    if spec.completions == old.completions {
        return;
    }
    if let Some(completions) = spec
        .completions
        .filter(|_| spec.completions != spec.parallelism)
    {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(&own, completions, why));
    }
}

/// A suspended job without pods has not begun, or has stopped.
fn is_editable(old: &Job, spec: &JobSpec) -> bool {
    let status = old.status.clone().unwrap_or_default();
    let is_stopped = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Suspended" && condition.status == "True");
    spec.suspend == Some(true)
        && (status.start_time.is_none() || is_stopped)
        && status.active.unwrap_or(0) == 0
}

fn template_update(
    errors: &mut FieldErrors,
    spec: &JobSpec,
    old: &JobSpec,
    is_editable: bool,
    path: &FieldPath,
) {
    let mut before = old.template.clone();
    if is_editable {
        let new = spec.template.spec.clone().unwrap_or_default();
        take_scheduling(&mut before, &spec.template, &new);
        let own = before.spec.get_or_insert_default();
        take_resources(&mut own.containers, &new.containers);
        take_resources(
            own.init_containers.as_deref_mut().unwrap_or_default(),
            new.init_containers.as_deref().unwrap_or_default(),
        );
        immutable(
            errors,
            &Some(new),
            &before.spec,
            &path.child("template.spec"),
        );
        return;
    }
    immutable(errors, &spec.template, &before, &path.child("template"));
}

/// Where pods of a job that waits will run is still open (KEP-2926).
fn take_scheduling(before: &mut PodTemplateSpec, template: &PodTemplateSpec, new: &PodSpec) {
    let metadata = template.metadata.clone().unwrap_or_default();
    let own = before.metadata.get_or_insert_default();
    own.annotations = metadata.annotations;
    own.labels = metadata.labels;
    let own = before.spec.get_or_insert_default();
    let nodes = new
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.clone());
    match (&new.affinity, &mut own.affinity) {
        (None, Some(affinity)) => {
            affinity.node_affinity = None;
            if *affinity == Affinity::default() {
                own.affinity = None;
            }
        }
        (Some(_), affinity) => affinity.get_or_insert_default().node_affinity = nodes,
        (None, None) => {}
    }
    own.node_selector.clone_from(&new.node_selector);
    own.tolerations.clone_from(&new.tolerations);
    own.scheduling_gates.clone_from(&new.scheduling_gates);
}

fn take_resources(before: &mut [Container], new: &[Container]) {
    if before.len() != new.len() {
        return;
    }
    for (before, new) in before
        .iter_mut()
        .zip(new)
        .filter(|(before, new)| before.name == new.name)
    {
        before.resources.clone_from(&new.resources);
    }
}

pub(super) fn spec_warnings(spec: Option<&JobSpec>, path: &FieldPath) -> Vec<String> {
    let Some(spec) = spec else { return Vec::new() };
    let mut warnings = Vec::new();
    let many = spec.completions.unwrap_or(0) > MANY_COMPLETIONS
        && spec.parallelism.unwrap_or(0) > MANY_AT_ONCE;
    if is_indexed(spec) && many {
        warnings.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    warnings.extend(template_warnings(
        Some(&spec.template),
        &path.child("template"),
    ));
    warnings
}

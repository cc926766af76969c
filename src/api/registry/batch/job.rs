//! Jobs of `batch/v1`.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};

use super::{job_status, job_validation};
use crate::apps::workload;
use crate::cells;
use crate::pod_template::{default_template, default_text};
use crate::{Column, DefaultCascade, Generation, SelectableField, Strategy, Subresource};
use apimachinery::{FieldErrors, FieldPath};
use env::Timestamp;
use k8s_openapi::api::core::v1::Container;

/// Objects of kind `Job`.
#[derive(Debug)]
pub struct Jobs;

impl Strategy for Jobs {
    type Kind = Job;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Status", |job, _| state(job).into()),
        Column::text("Completions", |job, _| completions(job).into()),
        Column::text("Duration", |job, now| duration(job, now).into()),
        Column::age(),
        Column::wide_text("Containers", |object, _| {
            cells::container_names(containers(object))
        }),
        Column::wide_text("Images", |object, _| {
            cells::container_images(containers(object))
        }),
        Column::wide_text("Selector", |job, _| {
            cells::selector(job.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
        }),
    ];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DEFAULT_CASCADE: DefaultCascade = DefaultCascade::Orphan;
    const GENERATION: Generation = Generation::Spec;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[SelectableField::with_fallback(
        "status.successful",
        &["status.succeeded"],
        "0",
    )];

    fn default(job: &mut Job) {
        let Some(spec) = &mut job.spec else { return };
        default_job_spec(spec);
        let labels = spec
            .template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.clone())
            .unwrap_or_default();
        if !labels.is_empty() && job.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
            job.metadata.labels = Some(labels);
        }
    }

    fn prepare_for_create(job: &mut Job) {
        let metadata = (
            job.metadata.name.clone().unwrap_or_default(),
            job.metadata.uid.clone().unwrap_or_default(),
        );
        let has_labels_of_template = template_labels(job).unwrap_or_default()
            == job.metadata.labels.clone().unwrap_or_default();
        if let Some(spec) = job
            .spec
            .as_mut()
            .filter(|spec| spec.manual_selector != Some(true))
        {
            select_by_uid(spec, metadata.0, metadata.1);
        }
        // A job without labels of its own has those of its template, also those that are added here.
        if has_labels_of_template {
            job.metadata.labels = template_labels(job);
        }
    }

    fn validate(job: &Job) -> FieldErrors {
        job_validation::validate(job)
    }

    fn validate_update(job: &Job, old: &Job) -> FieldErrors {
        job_validation::validate_update(job, old)
    }

    fn validate_status_update(job: &Job, old: &Job) -> FieldErrors {
        job_status::validate_status_update(job, old)
    }

    fn warnings(job: &Job) -> Vec<String> {
        let mut warnings: Vec<String> =
            workload::host_name_warning(&job.metadata, "Pod names and hostnames")
                .into_iter()
                .collect();
        warnings.extend(job_validation::spec_warnings(
            job.spec.as_ref(),
            &FieldPath::new("spec"),
        ));
        warnings
    }

    fn warnings_on_update(job: &Job, old: &Job) -> Vec<String> {
        if job.metadata.generation == old.metadata.generation {
            return Vec::new();
        }
        job_validation::spec_warnings(job.spec.as_ref(), &FieldPath::new("spec"))
    }
}

fn template_labels(job: &Job) -> Option<BTreeMap<String, String>> {
    job.spec
        .as_ref()?
        .template
        .metadata
        .as_ref()?
        .labels
        .clone()
}

/// The labels that tell a job's pods from all others, each with its name from before labels had prefixes.
pub(super) const JOB_NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
pub(super) const CONTROLLER_UID_LABELS: [&str; 2] = ["controller-uid", CONTROLLER_UID_LABEL];
pub(super) const CONTROLLER_UID_LABEL: &str = "batch.kubernetes.io/controller-uid";

/// Gives the pods labels of their own and selects by them. What the author wrote stays; validation refuses what contradicts.
fn select_by_uid(spec: &mut JobSpec, name: String, uid: String) {
    let labels = spec
        .template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    for (keys, value) in [(JOB_NAME_LABELS, &name), (CONTROLLER_UID_LABELS, &uid)] {
        for key in keys {
            labels
                .entry(key.to_owned())
                .or_insert_with(|| value.clone());
        }
    }
    let selected = spec
        .selector
        .get_or_insert_default()
        .match_labels
        .get_or_insert_default();
    selected
        .entry(CONTROLLER_UID_LABEL.to_owned())
        .or_insert(uid);
}

/// Defaults of a job's spec, whatever holds it.
fn default_job_spec(spec: &mut JobSpec) {
    default_template(&mut spec.template);
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
        spec.parallelism = Some(1);
    }
    spec.parallelism.get_or_insert(1);
    if spec.backoff_limit_per_index.is_some() {
        spec.backoff_limit.get_or_insert(i32::MAX);
    }
    spec.backoff_limit.get_or_insert(6);
    spec.completion_mode
        .get_or_insert_with(|| "NonIndexed".to_owned());
    spec.suspend.get_or_insert(false);
    spec.manual_selector.get_or_insert(false);
    let replacement = if spec.pod_failure_policy.is_some() {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    default_text(&mut spec.pod_replacement_policy, replacement);
    for rule in spec
        .pod_failure_policy
        .iter_mut()
        .flat_map(|policy| policy.rules.iter_mut())
    {
        for condition in rule.on_pod_conditions.iter_mut().flatten() {
            default_text(&mut condition.status, "True");
        }
    }
}

fn containers(object: &Job) -> &[Container] {
    let spec = object
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

fn state(job: &Job) -> &'static str {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let holds = |kind: &str| {
        conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .is_some_and(|condition| condition.status == "True")
    };
    if holds("Complete") {
        return "Complete";
    }
    if holds("Failed") {
        return "Failed";
    }
    if job.metadata.deletion_timestamp.is_some() {
        return "Terminating";
    }
    ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
        .into_iter()
        .find(|kind| holds(kind))
        .unwrap_or("Running")
}

fn completions(job: &Job) -> String {
    let succeeded = job
        .status
        .as_ref()
        .and_then(|status| status.succeeded)
        .unwrap_or(0);
    let spec = job.spec.as_ref();
    match (
        spec.and_then(|spec| spec.completions),
        spec.and_then(|spec| spec.parallelism).unwrap_or(0),
    ) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(job: &Job, now: Timestamp) -> String {
    let Some(status) = &job.status else {
        return String::new();
    };
    let Some(start) = &status.start_time else {
        return String::new();
    };
    let end = status
        .completion_time
        .as_ref()
        .map_or(now, |time| Timestamp::from_jiff(time.0));
    cells::elapsed(Timestamp::from_jiff(start.0), end)
}

//! Jobs of `batch/v1`.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};

use crate::{DefaultCascade, Generation, SelectableField, Strategy, Subresource};
use crate::pod_template::{default_template, default_text};

/// Objects of kind `Job`.
#[derive(Debug)]
pub struct Jobs;

impl Strategy for Jobs {
    type Kind = Job;
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DEFAULT_CASCADE: DefaultCascade = DefaultCascade::Orphan;
    const GENERATION: Generation = Generation::Spec;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::with_fallback("status.successful", &["status.succeeded"], "0"),
    ];

    fn default(job: &mut Job) {
        let Some(spec) = &mut job.spec else { return };
        default_job_spec(spec);
        let labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
        if !labels.is_empty() && job.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
            job.metadata.labels = Some(labels);
        }
    }
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
    spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
    spec.suspend.get_or_insert(false);
    spec.manual_selector.get_or_insert(false);
    let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
    default_text(&mut spec.pod_replacement_policy, replacement);
    for rule in spec.pod_failure_policy.iter_mut().flat_map(|policy| policy.rules.iter_mut()) {
        for condition in rule.on_pod_conditions.iter_mut().flatten() {
            default_text(&mut condition.status, "True");
        }
    }
}

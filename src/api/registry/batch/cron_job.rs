//! Cron Jobs of `batch/v1`.

use k8s_openapi::api::batch::v1::CronJob;

use crate::{Generation, Strategy, Subresource};
use crate::pod_template::{default_template, default_text};

/// Objects of kind `CronJob`.
#[derive(Debug)]
pub struct CronJobs;

impl Strategy for CronJobs {
    type Kind = CronJob;
    const SHORT_NAMES: &'static [&'static str] = &["cj"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;

    fn default(cron: &mut CronJob) {
        let spec = &mut cron.spec;
        default_text(&mut spec.concurrency_policy, "Allow");
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        // The template's job spec is completed when a job is made of it; only its pods are defaulted here.
        if let Some(job) = &mut spec.job_template.spec {
            default_template(&mut job.template);
        }
    }
}

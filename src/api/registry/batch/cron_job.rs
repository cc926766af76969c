//! Cron Jobs of `batch/v1`.

use k8s_openapi::api::batch::v1::CronJob;

use crate::{Generation, Strategy, Subresource};

/// Objects of kind `CronJob`.
#[derive(Debug)]
pub struct CronJobs;

impl Strategy for CronJobs {
    type Kind = CronJob;
    const SHORT_NAMES: &'static [&'static str] = &["cj"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
}

//! Cron Jobs of `batch/v1`.

use k8s_openapi::api::batch::v1::CronJob;

use k8s_openapi::api::core::v1::Container;
use crate::{Column, Generation, Strategy, Subresource};
use crate::cells;
use crate::pod_template::{default_template, default_text};

/// Objects of kind `CronJob`.
#[derive(Debug)]
pub struct CronJobs;

impl Strategy for CronJobs {
    type Kind = CronJob;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Schedule", |cron, _| cron.spec.schedule.clone().into()),
        Column::text("Timezone", |cron, _| cron.spec.time_zone.as_deref().unwrap_or(cells::NONE).into()),
        Column::boolean("Suspend", |cron, _| cells::flag(cron.spec.suspend)),
        Column::integer("Active", |cron, _| {
            cron.status.as_ref().and_then(|status| status.active.as_ref()).map_or(0, Vec::len).into()
        }),
        Column::text("Last Schedule", |cron, now| {
            match cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref()) {
                Some(time) => cells::since(Some(time), now).into(),
                None => cells::NONE.into(),
            }
        }),
        Column::age(),
        Column::wide_text("Containers", |object, _| cells::container_names(containers(object))),
        Column::wide_text("Images", |object, _| cells::container_images(containers(object))),
        Column::wide_text("Selector", |cron, _| {
            cells::selector(cron.spec.job_template.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
        }),
    ];
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

fn containers(cron: &CronJob) -> &[Container] {
    let spec = cron.spec.job_template.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

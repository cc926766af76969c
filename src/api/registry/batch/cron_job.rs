//! Cron Jobs of `batch/v1`.

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec};

use super::job_spec::job_spec;
use super::job_validation::spec_warnings;
use crate::apps::workload;
use crate::cells;
use crate::pod_template::{default_template, default_text};
use crate::validation::changes::json;
use crate::validation::numbers::non_negative;
use crate::validation::{found, path, required_one_of, text};
use crate::{Column, Generation, Strategy, Subresource};
use k8s_openapi::api::core::v1::Container;

/// A job's name is the cron job's and eleven characters more, and fits a label.
const NAME_CHARACTERS_MAX: usize = 52;
const ZONE_PART_CHARACTERS_MAX: usize = 14;

/// Objects of kind `CronJob`.
#[derive(Debug)]
pub struct CronJobs;

impl Strategy for CronJobs {
    type Kind = CronJob;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Schedule", |cron, _| cron.spec.schedule.clone().into()),
        Column::text("Timezone", |cron, _| {
            cron.spec.time_zone.as_deref().unwrap_or(cells::NONE).into()
        }),
        Column::boolean("Suspend", |cron, _| cells::flag(cron.spec.suspend)),
        Column::integer("Active", |cron, _| {
            cron.status
                .as_ref()
                .and_then(|status| status.active.as_ref())
                .map_or(0, Vec::len)
                .into()
        }),
        Column::text("Last Schedule", |cron, now| {
            match cron
                .status
                .as_ref()
                .and_then(|status| status.last_schedule_time.as_ref())
            {
                Some(time) => cells::since(Some(time), now).into(),
                None => cells::NONE.into(),
            }
        }),
        Column::age(),
        Column::wide_text("Containers", |object, _| {
            cells::container_names(containers(object))
        }),
        Column::wide_text("Images", |object, _| {
            cells::container_images(containers(object))
        }),
        Column::wide_text("Selector", |cron, _| {
            cells::selector(
                cron.spec
                    .job_template
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.selector.as_ref()),
            )
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

    fn validate_create(cron: &CronJob) -> FieldErrors {
        found(|errors| {
            spec_errors(errors, &cron.spec, None, &FieldPath::new("spec"));
            let name = cron.metadata.name.as_deref().unwrap_or_default();
            if name.len() > NAME_CHARACTERS_MAX {
                let why = format!("must be no more than {NAME_CHARACTERS_MAX} characters");
                errors.push(FieldError::invalid(&path(&["metadata", "name"]), name, why));
            }
        })
    }

    fn validate_update(cron: &CronJob, old: &CronJob) -> FieldErrors {
        found(|errors| spec_errors(errors, &cron.spec, Some(&old.spec), &FieldPath::new("spec")))
    }

    fn warnings(cron: &CronJob) -> Vec<String> {
        let mut warnings: Vec<String> =
            workload::host_name_warning(&cron.metadata, "Pod names and hostnames")
                .into_iter()
                .collect();
        warnings.extend(template_warnings(cron));
        warnings
    }

    fn warnings_on_update(cron: &CronJob, old: &CronJob) -> Vec<String> {
        let changed = cron.metadata.generation != old.metadata.generation;
        let mut warnings = if changed {
            template_warnings(cron)
        } else {
            Vec::new()
        };
        if cron.spec.schedule.contains("TZ") {
            warnings.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_owned(),
            );
        }
        warnings
    }
}

fn containers(cron: &CronJob) -> &[Container] {
    let spec = cron
        .spec
        .job_template
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

fn template_warnings(cron: &CronJob) -> Vec<String> {
    spec_warnings(
        cron.spec.job_template.spec.as_ref(),
        &path(&["spec", "jobTemplate", "spec"]),
    )
}

fn spec_errors(
    errors: &mut FieldErrors,
    spec: &CronJobSpec,
    old: Option<&CronJobSpec>,
    path: &FieldPath,
) {
    if spec.schedule.is_empty() {
        errors.push(FieldError::required(&path.child("schedule"), ""));
    } else {
        schedule(errors, spec, old, &path.child("schedule"));
    }
    non_negative(
        errors,
        spec.starting_deadline_seconds.unwrap_or(0),
        &path.child("startingDeadlineSeconds"),
    );
    if let Some(zone) = spec
        .time_zone
        .as_ref()
        .filter(|_| old.is_none_or(|old| old.time_zone != spec.time_zone))
    {
        time_zone(errors, zone, &path.child("timeZone"));
    }
    let policies = ["Allow", "Forbid", "Replace"];
    required_one_of(
        errors,
        text(&spec.concurrency_policy),
        &policies,
        &path.child("concurrencyPolicy"),
    );
    let own = path.child("jobTemplate").child("spec");
    let empty = JobSpec::default();
    let job = spec.job_template.spec.as_ref().unwrap_or(&empty);
    job_spec(errors, job, &own);
    if job.selector.is_some() {
        let why = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(
            &own.child("selector"),
            json(&job.selector),
            why,
        ));
    }
    if job.manual_selector == Some(true) {
        errors.push(FieldError::not_supported(
            &own.child("manualSelector"),
            true,
            &["nil", "false"],
        ));
    }
    for (limit, field) in [
        (
            spec.successful_jobs_history_limit,
            "successfulJobsHistoryLimit",
        ),
        (spec.failed_jobs_history_limit, "failedJobsHistoryLimit"),
    ] {
        non_negative(errors, limit.unwrap_or(0), &path.child(field));
    }
}

/// A zone in the schedule was legal once and stays where it is.
fn schedule(
    errors: &mut FieldErrors,
    spec: &CronJobSpec,
    old: Option<&CronJobSpec>,
    path: &FieldPath,
) {
    let schedule = spec.schedule.as_str();
    if let Err(why) = semantics::cron_schedule::parse(schedule) {
        errors.push(FieldError::invalid(path, schedule, why));
    }
    let had_zone = old.is_some_and(|old| old.schedule.contains("TZ"));
    let why = match (schedule.contains("TZ"), had_zone) {
        (true, true) if spec.time_zone.is_some() => {
            "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        }
        (true, false) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        _ => return,
    };
    errors.push(FieldError::invalid(path, schedule, why));
}

fn time_zone(errors: &mut FieldErrors, zone: &str, path: &FieldPath) {
    let mut refuse = |why: String| errors.push(FieldError::invalid(path, zone, why));
    if zone.is_empty() {
        refuse("timeZone must be nil or non-empty string".to_owned());
        return;
    }
    let is_legal = |part: &str| {
        let characters = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
        !part.is_empty()
            && part.len() <= ZONE_PART_CHARACTERS_MAX
            && part != "."
            && part != ".."
            && !part.starts_with('-')
            && part.bytes().all(characters)
    };
    if !zone.split('/').all(is_legal) {
        refuse(format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        refuse(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
                .to_owned(),
        );
    }
    if zone != "Local" && semantics::time_zones::find(zone).is_none() {
        refuse(format!("unknown time zone {zone}"));
    }
}

//! Kinds of the group `batch`, one file each.

pub mod cron_job;
mod indexes;
pub mod job;
mod job_spec;
mod job_status;
mod job_validation;

//! Kinds of the group `batch`, one file each.

pub mod cron_job;
pub mod job;
mod indexes;
mod job_spec;
mod job_status;
mod job_validation;

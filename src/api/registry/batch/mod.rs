//! Kinds of the group `batch`, one file each.

pub mod cron_job;
pub mod job;

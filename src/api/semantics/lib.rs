//! Arithmetic that several components share: one topic a file, all of it pure.

pub mod containers;
pub mod cron_schedule;
pub mod downward_api;
pub mod int_or_percent;
pub mod node_affinity;
pub mod qos;
pub mod quota;
pub mod resources;
pub mod selectors;
pub mod taints;
pub mod time_zones;

//! Kinds of the group `core`, one file each.

pub mod binding;
pub mod component_status;
pub mod config_map;
pub mod endpoints;
pub mod event;
pub(crate) mod event_validation;
pub mod limit_range;
pub mod namespace;
pub mod node;
mod node_validation;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub(crate) mod persistent_volume_validation;
pub mod pod;
mod pod_cells;
mod pod_preparation;
mod pod_resize;
mod pod_status;
pub mod pod_template;
mod pod_update;
mod pod_validation;
pub mod replication_controller;
pub mod resource_quota;
pub mod secret;
pub mod service;
pub mod service_account;
mod service_validation;

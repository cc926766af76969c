//! Kinds of the group `flowcontrol`, one file each.

pub mod flow_schema;
mod mandatory;
pub mod priority_level_configuration;

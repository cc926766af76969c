//! Kinds of the group `apiextensions`, one file each.

pub mod custom_resource_definition;
mod validation;

//! The built-in kinds: one file per kind in folders by API group, the trait they fill in, and the table that lists them.

mod cells;
mod column_descriptions;
mod erased;
mod metadata_columns;
mod pod_template;
mod status;
mod strategy;
mod table;
mod validation;

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;

pub use erased::{
    ColumnDefinition, Description, HookError, Resource, ResourceHandle, ScalePaths, Scope,
    SelectablePath, Verdict, empty_object,
};
pub use metadata_columns::human_duration;
pub use strategy::{
    Column, DefaultCascade, DeleteAnswer, Generation, Permission, Retention, SelectableField,
    StatusMetadata, StatusOnCreate, StoredAs, Strategy, Subresource, Typed, Verbs,
};
pub use table::RESOURCES;

#[cfg(test)]
mod tests;

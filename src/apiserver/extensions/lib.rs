//! Custom resources: from their definitions to kinds that take the same road as the built-in ones.
//!
//! - [`follow`] keeps the served kinds and the definitions' statuses as the definitions are.
//! - [`unbuilt`] and [`unchecked`] tell what a definition asks for in vain.
//! - [`CustomResource`] is one version of one custom kind.

mod custom_resource;
mod definition;
mod establish;
mod follow;
mod interner;
mod json_path;
mod printer_columns;
mod unbuilt;

pub use custom_resource::CustomResource;
pub use definition::{Definition, DefinitionError};
pub use follow::{FINALIZER, follow};
pub use unbuilt::{unbuilt, unchecked};

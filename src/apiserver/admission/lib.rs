//! What stands between an authorized write and the store: one file per plugin.

mod plugin;

pub use plugin::{AdmissionRequest, Operation, Plugin};

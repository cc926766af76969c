//! The controllers of Kubernetes: one file or folder each, and the table that starts them.
//!
//! A controller reads caches, plans purely, and leaves acting to the runner of crate `controller`.

mod conditions;
mod deployment;
mod ownership;
mod pod_template;
mod pods;
mod replica_set;
mod table;
mod template_hash;

pub use table::{CONTROLLERS, Entry, start_all};

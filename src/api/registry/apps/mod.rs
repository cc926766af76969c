//! Kinds of the group `apps`, one file each.

pub mod controller_revision;
pub mod daemon_set;
pub mod deployment;
pub mod replica_set;
pub(crate) mod replicas;
pub mod stateful_set;
pub(crate) mod workload;

//! The controllers of Kubernetes: one file or folder each, and the table that starts them.
//!
//! A controller reads caches, plans purely, and leaves acting to the runner of crate `controller`.

mod certificates;
mod cluster_role_aggregation;
mod conditions;
mod cron_job;
mod daemon_set;
mod deployment;
mod discovery;
mod disruption;
mod endpoint_slice;
mod endpoints;
mod garbage_collector;
mod history;
mod job;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod ownership;
mod pod_garbage;
mod pod_template;
mod pods;
mod replica_set;
mod resource_quota;
mod revisioned;
mod root_ca;
mod service_account;
mod service_lb;
mod services;
mod slices;
mod stateful_set;
mod storage_protection;
mod table;
mod taint_eviction;
mod template_hash;
mod token_cleaner;
mod ttl_after_finished;

pub use certificates::{AuthoritySigner, CertificateSigner, IssuedFor};
pub use node_ipam::{MaskSizes, NodeCidrs, POD_CIDRS_ANNOTATION, SharesError};
pub use table::{CONTROLLERS, Entry, Options, start_all};

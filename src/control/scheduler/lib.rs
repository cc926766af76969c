//! Decides where pods run.
//!
//! One task owns everything: changes of pods and nodes keep a `Cluster` current, `decide` picks a node for the next pod purely, and the pod
//! is assumed to run there until its binding shows in the cache. Pods that fit nowhere wait until something happens that may help them.

mod bind;
mod cluster;
mod decision;
mod happening;
mod node;
mod plugins;
mod pod;
mod preemption;
mod queue;
mod run;
mod workloads;

pub use run::{Scheduler, USER};

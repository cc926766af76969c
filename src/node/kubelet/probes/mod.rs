//! Probes: tasks that ask containers how they are and only change the inputs of the pod's worker.

mod check;
mod grpc;
pub(crate) mod http;
mod kind;
mod pod_probes;
mod task;

pub(crate) use kind::{ProbeKind, ProbeResult};
pub(crate) use pod_probes::PodProbes;

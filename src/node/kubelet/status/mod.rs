//! The status of a pod: computed by pure functions from spec, runtime and probes; written by one writer per pod.

mod conditions;
mod container_status;
mod patch;
mod phase;
mod pod_status;
mod writer;

pub(crate) use container_status::{StartError, container_id};
pub(crate) use pod_status::{Computed, ResizeState, StatusInputs, compute};
pub(crate) use writer::{Report, StatusWriter, WRITES_MAX};

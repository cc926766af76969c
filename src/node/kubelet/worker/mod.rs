//! One task per pod: observe the runtime, decide, do at most what the phase allows, tell the status.

mod backoff;
mod dead;
mod executor;
mod hooks;
mod kill;
mod observed;
mod phase;
mod plan;
mod plan_init;
mod pod_worker;
mod start;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use backoff::{BACK_OFF_FIRST, BackOff, go_duration};
pub(crate) use observed::Observed;
pub(crate) use phase::Phase;
pub(crate) use plan::needs_new_sandbox;
pub(crate) use pod_worker::{PodWorker, WorkerView};

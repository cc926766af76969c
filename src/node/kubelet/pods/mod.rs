//! Which pods this node should run, and small facts about a pod that many places ask for.

pub(crate) mod facts;
mod inputs;
mod table;

pub(crate) use inputs::{Eviction, Inputs, Rejection, Snapshot};
pub use inputs::{Origin, Wanted};
pub(crate) use table::{PodHandle, PodTable};

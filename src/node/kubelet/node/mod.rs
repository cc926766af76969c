//! The node itself: what it has, its object, its lease.

mod capacity;
mod lease;
pub(crate) mod memory_limits;
mod object;
mod pressure;
mod registrar;

pub use capacity::Capacity;
pub(crate) use object::NodeFacts;
pub(crate) use pressure::{Pressure, PressureState};
pub(crate) use registrar::NodeRegistrar;
